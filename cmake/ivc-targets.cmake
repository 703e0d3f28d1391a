# SPDX-License-Identifier: MIT
# What every target of the project has in common. Flags hang on targets; nothing here is global.

set(ivc_warnings
	-Wall
	-Wextra
	-Wconversion
	-Wsign-conversion
	-Wshadow
	-Wstrict-prototypes
	-Wmissing-prototypes
	-Wvla
	-Wundef
	-Wcast-qual
	-Wpointer-arith
	-Wwrite-strings)

# ivc_common(<target>): language level, warnings, sanitizers, the private include path.
function(ivc_common target)
	target_compile_features(${target} PRIVATE c_std_11)
	set_target_properties(${target} PROPERTIES
		C_STANDARD 11
		C_STANDARD_REQUIRED ON
		C_EXTENSIONS OFF
		C_VISIBILITY_PRESET hidden
		POSITION_INDEPENDENT_CODE ON)
	target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/src)
	target_compile_options(${target} PRIVATE ${ivc_warnings} $<$<BOOL:${IVC_WERROR}>:-Werror>)
	if(IVC_SANITIZE)
		target_compile_options(${target} PRIVATE
			-fsanitize=${IVC_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
		target_link_options(${target} PRIVATE -fsanitize=${IVC_SANITIZE})
		if(IVC_SANITIZE MATCHES "thread" AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
			# TSan does not know fences; ivc/atomic.h gives it a read-modify-write instead.
			target_compile_options(${target} PRIVATE -Wno-tsan)
		endif()
	endif()
	if(IVC_FUZZ)
		target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
	endif()
endfunction()

# ivc_library(<name> SOURCES ... [LINK ...] [DEFINES ...]): the static library libivc-<name>.a as target ivc::<name>.
# Nothing is made while there are no sources.
function(ivc_library name)
	cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINK;DEFINES")
	if(NOT arg_SOURCES)
		return()
	endif()
	string(REPLACE "-" "_" target ivc_${name})
	add_library(${target} STATIC ${arg_SOURCES})
	add_library(ivc::${name} ALIAS ${target})
	ivc_common(${target})
	set_target_properties(${target} PROPERTIES OUTPUT_NAME ivc-${name} EXPORT_NAME ${name})
	target_link_libraries(${target} PUBLIC ivc_abi)
	target_compile_definitions(${target} PRIVATE ${arg_DEFINES})
	foreach(library IN LISTS arg_LINK)
		ivc_link_existing(${target} PUBLIC ${library})
	endforeach()
endfunction()

# ivc_link_existing(<target> <scope> <library>...): links those that are targets.
function(ivc_link_existing target scope)
	foreach(library IN LISTS ARGN)
		if(TARGET ${library})
			target_link_libraries(${target} ${scope} ${library})
		endif()
	endforeach()
endfunction()
