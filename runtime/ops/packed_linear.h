// A linear layer whose weight stays packed: indices into a table of centroids, times a scale per block of a row.
//
// On the device packed weights lie so that 32 lanes with neighbouring runs of 32 columns read 16 bytes each, which four rows (a
// quad) share: rows are padded to tiles of 32, columns to runs. Indices are u32 [quads, bits, runs, 4]: word n = 4 j + k of the
// 4 * bits words that a quad has of a run lies at [quad, j, run, k]; row r of the quad has the `bits` ones from r * bits on,
// least significant bits first. At 3 bits the 16 pairs of a run (even column in the lower three bits) lie five to a word; bits 2j
// and 2j + 1 of the last pair are bits 30 and 31 of word j. Scales are bf16 [quads, blocks, 4 rows]. Padding holds zeros.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/graph/graph.h"
#include "runtime/ops/fusion.h"

namespace vkqat {

// W[o, i] = centroids[part, index(o, i)] * scales[o, i / block_size]. Matrices of one width that stand below one another (q, k
// and v; gate and up) are parts of one layer: each has its own centroids and begins with a tile of its own.
struct PackedLayer {
    Tensor indices;    // u32 [PackedExtents::words]
    Tensor scales;     // bf16 [PackedExtents::scales]
    Tensor centroids;  // f32 [parts, 2^bits]
    int bits = 0;      // 1, 2, 3, 4 or 8
    int64_t block_size = 0;
    int64_t in = 0;
    std::vector<int64_t> rows;  // of the one to three parts
    int64_t out() const;        // of all parts
};

// What a layer takes on the device.
struct PackedExtents {
    int64_t tiles = 0, runs = 0, blocks = 0;
    int64_t words = 0, scales = 0;
};
PackedExtents packed_extents(const std::vector<int64_t>& rows, int64_t in, int bits, int64_t block_size);

// Where the parts lie, as shaders take it. A part that is not there has no rows and begins behind the last tile.
struct PackedParts {
    std::array<uint32_t, 3> rows{}, first_tile{};
    uint32_t tiles = 0;
};
PackedParts packed_parts(const PackedLayer& w);

// Error naming the tensor (`what`: "down") if a layer's tensors do not have the shapes that its sizes ask for.
void check_packed(const PackedLayer& w, const std::string& what);

// One part of it as a layer of its own.
PackedLayer packed_part(Graph& g, const PackedLayer& w, size_t part);

// Brings rows from the layout of runtime/formats/packing.h, packed u8 [rows, in * bits / 8] and scales bf16 [rows, blocks], into
// the layer's tiles from `first_tile` on. The rows of a piece of it are a multiple of 32 but
// for its last.
void tile_packed(Graph& g, Tensor packed, Tensor scales, const PackedLayer& layer, int64_t first_tile);

// How it is computed; tests run all.
enum class PackedLinearVariant {
    automatic,
    rows,      // a lane per row, fp32: CPU drivers, and block sizes that 32 does not divide
    matvec,    // a lane per run of columns, tables in shared memory: products and sums of a run in fp16 (activations with a power
               // of two for each run, so that nothing overflows), beyond that fp32. 8 bits: fp16 activations, fp32 products.
    integers,  // 1 and 2 bits: the same in integers, with a factor for 64 columns; block sizes that 64 divides. Exact but for
               // activations, which become 16-bit integers, and at 2 bits for centroids, which become bytes times a scale: 1.3e-4
               // of their range off on average, 6e-4 at worst but for one of a hundred random codebooks. Taken by itself where a
               // lane has an even number of runs: 65536 x 8192 35.5 us instead of 40.4 at 1 bit, 45.3 instead of 50.3 at 2 (H200,
               // each pair in one run).
};

// y = x W^T, straight from the packed weight. x f32 [tokens, in] -> f32 [tokens, out], or [tokens, out / 2] with swiglu.
// With the matvec variant the norm may be [parts, in]: each part has weights of its own (without swiglu).
// Inference only: Error if x requires a gradient, or a tensor does not have its shape.
Tensor packed_linear(Graph& g, Tensor x, const PackedLayer& w, const std::string& label = "packed_linear",
                     const LinearFusion& fusion = {}, PackedLinearVariant variant = PackedLinearVariant::automatic,
                     const MatvecTuning& tuning = {});

// What asymmetric quantizers have for each block besides a scale, one of both. Zero points: W = (centroid + center - zero) scale.
// Negative scales: those of weights whose centroid is below 0 (2 bits and more).
struct PackedAsymmetry {
    Tensor zeros = {};  // u8 [PackedExtents::scales], in the order of the scales
    float center = 0;
    Tensor negative_scales = {};  // bf16, as the scales
};
// The same product with them, as the matvec variant only: an Error where packed_linear_folds() says no.
Tensor packed_asymmetric_linear(Graph& g, Tensor x, const PackedLayer& w, const PackedAsymmetry& blocks, const std::string& label,
                                const LinearFusion& fusion = {}, const MatvecTuning& tuning = {});

// Up to how many tokens it is faster than packed_matmul() on a GPU that has both. A step of a 12B with 4 bits on an H200: 6.9 ms
// for 4 tokens, 12.7 ms for 5 to 16 by packed_matmul().
constexpr int64_t packed_linear_tokens = 4;

// The same into the columns first_column .. first_column + out - 1 of y, f32 [tokens, any].
void packed_linear_into(Graph& g, Tensor x, const PackedLayer& w, Tensor y, int64_t first_column, const std::string& label,
                        PackedLinearVariant variant = PackedLinearVariant::automatic, Tensor norm = {}, float eps = 0);

// Whether packed_linear() folds norms, residuals and SwiGLU in; packed_linear_into() takes a norm only then.
bool packed_linear_folds(const Capabilities& device, const PackedLayer& w);

// W [out, in] as f32, f16 or bf16.
Tensor dequantize(Graph& g, const PackedLayer& w, DType type);

}  // namespace vkqat
