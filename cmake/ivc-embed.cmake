# SPDX-License-Identifier: MIT
# A file as a C constant: cmake -DIN=<file> -DOUT=<source> -DSYMBOL=<name> -P ivc-embed.cmake
file(READ ${IN} text HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," text "${text}")
string(REGEX REPLACE "(................................................................................)" "\\1\n" text
	"${text}")
file(WRITE ${OUT} "/* Made from a guest image by the build. */
#include <stddef.h>
extern const unsigned char ${SYMBOL}[];
extern const size_t ${SYMBOL}_bytes;
const unsigned char ${SYMBOL}[] __attribute__((aligned(16))) = {
${text}
};
const size_t ${SYMBOL}_bytes = sizeof(${SYMBOL});
")
