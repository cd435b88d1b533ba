// The part of zlib that Verilator's FST writer needs, for machines without zlib: blocks are stored.

#ifndef BIVIT_ZLIB_H
#define BIVIT_ZLIB_H

#include <cstdint>
#include <cstring>

using Bytef = unsigned char;
using uLong = unsigned long;
using uLongf = unsigned long;
constexpr int Z_OK = 0, Z_BUF_ERROR = -5;

inline uLong compressBound(uLong size) { return size + 5 * (size / 65535 + 1) + 6; }

inline int compress2(Bytef* target, uLongf* capacity, const Bytef* source, uLong size, int) {
    if (*capacity < compressBound(size)) return Z_BUF_ERROR;
    Bytef* out = target;
    *out++ = 0x78, *out++ = 0x01;
    uLong at = 0;
    do {
        const uLong count = size - at < 65535 ? size - at : 65535;
        *out++ = at + count == size;
        *out++ = count & 255, *out++ = count >> 8, *out++ = ~count & 255, *out++ = ~count >> 8 & 255;
        if (count) std::memcpy(out, source + at, count);
        out += count, at += count;
    } while (at < size);
    uint32_t low = 1, high = 0;
    for (uLong i = 0; i < size; ++i) low = (low + source[i]) % 65521, high = (high + low) % 65521;
    for (const uint32_t half : {high, low}) *out++ = half >> 8 & 255, *out++ = half & 255;
    *capacity = static_cast<uLongf>(out - target);
    return Z_OK;
}

#endif
