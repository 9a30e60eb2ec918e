#version 460
//! variant kmeans_prefix
// One invocation per chunk of bins (stages 0 and 2), or one in all (stage 1).
#include "common.glsl"
#include "args/kmeans.h"
#include "trainer/kmeans.glsl"
layout(push_constant, scalar) uniform Push { KmeansPrefixArgs a; };
layout(constant_id = 1) const uint stage = 0;

void main() {
    uint index = invocation_index();
    if (stage == 1) {
        if (index != 0) return;
        int64_t count = 0, weight = 0, sum = 0;
        uint i = 0;
        do {
            I64 chunk = I64(a.chunks + uint64_t(i) * 24);
            int64_t c = chunk.v[0], w = chunk.v[1], s = chunk.v[2];
            chunk.v[0] = count;
            chunk.v[1] = weight;
            chunk.v[2] = sum;
            count += c;
            weight += w;
            sum += s;
            i++;
        } while (i <= a.chunk_count);
        return;
    }
    if (index >= a.chunk_count) return;
    I64 chunk = I64(a.chunks + uint64_t(index) * 24);
    int64_t count = 0, weight = 0, sum = 0;
    if (stage == 2) {
        count = chunk.v[0];
        weight = chunk.v[1];
        sum = chunk.v[2];
    }
    uint begin = index * a.chunk_bins, end = min(begin + a.chunk_bins, a.bins);
    if (stage == 2 && end == a.bins) end++;  // the prefix has one more element than there are bins: all of them
    for (uint i = begin; i < end; i++) {
        uint c = U32(a.counts).v[i];
        int64_t s = I64(a.sums).v[i], w = 0;
        if (a.weights != 0) w = I64(a.weights).v[i];
        if (stage == 2) {
            U32(a.counts).v[i] = uint(count);
            I64(a.sums).v[i] = sum;
            if (a.weights != 0) I64(a.weights).v[i] = weight;
        }
        count += c;
        weight += w;
        sum += s;
    }
    if (stage == 0) {
        chunk.v[0] = count;
        chunk.v[1] = weight;
        chunk.v[2] = sum;
        if (index + 1 == a.chunk_count) {
            I64 last = I64(a.chunks + uint64_t(a.chunk_count) * 24);
            last.v[0] = last.v[1] = last.v[2] = 0;
        }
    }
}
