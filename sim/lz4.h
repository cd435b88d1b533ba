// LZ4's block format for Verilator's FST writer, for machines without liblz4.
// Greedy: a table of the last place of each hash of four bytes, matches of at least four bytes.

#ifndef BIVIT_LZ4_H
#define BIVIT_LZ4_H

#include <cstdint>
#include <cstring>
#include <vector>

inline int LZ4_compressBound(int size) { return size + size / 255 + 16; }

namespace bivit_lz4 {

inline uint32_t four_bytes(const char* at) {
    uint32_t value;
    std::memcpy(&value, at, 4);
    return value;
}

// The rest of a length whose first 15 are in the token.
inline void put_length(uint8_t*& out, int length) {
    for (length -= 15; length >= 255; length -= 255) *out++ = 255;
    *out++ = static_cast<uint8_t>(length);
}

// Literals, then a match unless its length is 0.
inline void put_sequence(uint8_t*& out, const char* literals, int count, int offset, int match) {
    const int coded = match ? match - 4 : 0;
    *out++ = static_cast<uint8_t>((count < 15 ? count : 15) << 4 | (coded < 15 ? coded : 15));
    if (count >= 15) put_length(out, count);
    if (count) std::memcpy(out, literals, static_cast<size_t>(count));
    out += count;
    if (!match) return;
    *out++ = static_cast<uint8_t>(offset);
    *out++ = static_cast<uint8_t>(offset >> 8);
    if (coded >= 15) put_length(out, coded);
}

}  // namespace bivit_lz4

// Returns the compressed size, or 0 if `capacity` is below LZ4_compressBound(size).
inline int LZ4_compress_default(const char* source, char* target, int size, int capacity) {
    using namespace bivit_lz4;
    if (capacity < LZ4_compressBound(size)) return 0;
    constexpr int last_match = 12, last_literals = 5, farthest = 65535, bits = 14;
    std::vector<int> table(1 << bits, -1);
    auto* out = reinterpret_cast<uint8_t*>(target);
    int anchor = 0;
    for (int at = 0; at + last_match < size;) {
        const uint32_t value = four_bytes(source + at);
        int& slot = table[value * 2654435761u >> (32 - bits)];
        const int candidate = slot;
        slot = at;
        if (candidate < 0 || at - candidate > farthest || four_bytes(source + candidate) != value) {
            ++at;
            continue;
        }
        int length = 4;
        while (at + length < size - last_literals
               && source[candidate + length] == source[at + length]) ++length;
        put_sequence(out, source + anchor, at - anchor, at - candidate, length);
        anchor = at += length;
    }
    put_sequence(out, source + anchor, size - anchor, 0, 0);
    return static_cast<int>(reinterpret_cast<char*>(out) - target);
}

#endif
