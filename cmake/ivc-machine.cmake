# SPDX-License-Identifier: MIT
# Guest images for the machine of ivc/machine.h, and images as constants in a program. x86_64 only: IVC_MACHINE tells.
set(IVC_MACHINE OFF)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$" AND CMAKE_SYSTEM_NAME STREQUAL "Linux")
	set(IVC_MACHINE ON)
endif()

# No libc, no relocation, no vector registers, no red zone: an interrupt may come at any instruction in ring 0.
set(ivc_bare_flags -ffreestanding -fno-pic -fno-pie -mno-red-zone -mgeneral-regs-only -fno-stack-protector
	-fcf-protection=none -fno-sanitize=all -fno-omit-frame-pointer -O2)

# ivc_bare_objects(<target> <source>...): objects for guest images; no sanitizer reaches a guest.
function(ivc_bare_objects target)
	add_library(${target} OBJECT ${ARGN})
	set_target_properties(${target} PROPERTIES C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF)
	target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
	target_compile_options(${target} PRIVATE ${ivc_warnings} $<$<BOOL:${IVC_WERROR}>:-Werror> ${ivc_bare_flags})
endfunction()

# ivc_bare_guest(<target> OUTPUT <file> SOURCES <source>... [INCLUDE <directory>...]): one guest image.
function(ivc_bare_guest target)
	cmake_parse_arguments(PARSE_ARGV 1 arg "" "OUTPUT" "SOURCES;INCLUDE")
	ivc_bare_objects(${target}_objects ${arg_SOURCES})
	target_include_directories(${target}_objects PRIVATE ${arg_INCLUDE})
	add_executable(${target} $<TARGET_OBJECTS:${target}_objects> $<TARGET_OBJECTS:ivc_bare_guest_objects>
		$<TARGET_OBJECTS:ivc_bare_kit_objects>)
	cmake_path(GET arg_OUTPUT PARENT_PATH directory)
	cmake_path(GET arg_OUTPUT FILENAME name)
	set_target_properties(${target} PROPERTIES
		LINKER_LANGUAGE C
		RUNTIME_OUTPUT_DIRECTORY ${directory}
		OUTPUT_NAME ${name}
		LINK_DEPENDS ${PROJECT_SOURCE_DIR}/src/bare/guest.ld)
	target_link_options(${target} PRIVATE -nostdlib -static -Wl,-T,${PROJECT_SOURCE_DIR}/src/bare/guest.ld
		-Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack)
endfunction()

# ivc_embed(<target> <symbol> <guest target>): const unsigned char <symbol>[] and const size_t <symbol>_bytes in <target>.
function(ivc_embed target symbol guest)
	set(out ${CMAKE_CURRENT_BINARY_DIR}/embed_${symbol}.c)
	add_custom_command(OUTPUT ${out}
		COMMAND ${CMAKE_COMMAND} -DIN=$<TARGET_FILE:${guest}> -DOUT=${out} -DSYMBOL=${symbol}
			-P ${PROJECT_SOURCE_DIR}/cmake/ivc-embed.cmake
		DEPENDS ${guest} $<TARGET_FILE:${guest}> ${PROJECT_SOURCE_DIR}/cmake/ivc-embed.cmake
		VERBATIM)
	target_sources(${target} PRIVATE ${out})
endfunction()
