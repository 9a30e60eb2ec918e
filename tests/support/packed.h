// Packed weights for tests of the kernels that read them.
#pragma once

#include <algorithm>

#include "runtime/formats/packing.h"
#include "runtime/ops/packed_linear.h"
#include "tests/support/gpu.h"

namespace vkqat::test {

// Random indices, scales and sorted centroids.
inline PackedWeight random_packed(int64_t out, int64_t in, int bits, int64_t block_size, uint32_t seed) {
    PackedWeight w{.out = out, .in = in, .block_size = block_size, .bits = bits};
    std::mt19937 random(seed);
    std::vector<uint8_t> indices(size_t(out * in));
    for (uint8_t& i : indices) i = uint8_t(random() & ((1u << bits) - 1));
    w.packed = pack_indices(indices, in, bits);
    for (float s : uniform(size_t(out * in / block_size), seed + 1, 0.01f, 2)) w.scales.push_back(f32_to_bf16(s));
    w.centroids = normal(size_t(1) << bits, seed + 2);
    std::sort(w.centroids.begin(), w.centroids.end());
    return w;
}

// The parts of a layer on the device: the graph's first nodes bring them into tiles.
inline PackedLayer tiled(Graph& g, Tensors& data, const std::vector<PackedWeight>& parts) {
    PackedLayer layer{.bits = parts[0].bits, .block_size = parts[0].block_size, .in = parts[0].in};
    std::vector<float> centroids;
    for (const PackedWeight& w : parts) {
        layer.rows.push_back(w.out);
        centroids.insert(centroids.end(), w.centroids.begin(), w.centroids.end());
    }
    PackedExtents extents = packed_extents(layer.rows, layer.in, layer.bits, layer.block_size);
    layer.indices = data.poisoned({extents.words}, "indices", DType::u32);
    layer.scales = data.poisoned({extents.scales}, "scales", DType::bf16);
    layer.centroids = data.floats({int64_t(parts.size()), int64_t(1) << layer.bits}, centroids, "centroids");
    for (size_t i = 0; i < parts.size(); i++) {
        const PackedWeight& w = parts[i];
        std::vector<float> scales;
        for (uint16_t s : w.scales) scales.push_back(bf16_to_f32(s));
        tile_packed(g, data.bytes({w.out, w.in * w.bits / 8}, w.packed, "packed"),
                    data.floats({w.out, w.in / w.block_size}, scales, "scales", DType::bf16), layer,
                    packed_parts(layer).first_tile[i]);
    }
    return layer;
}

}  // namespace vkqat::test
