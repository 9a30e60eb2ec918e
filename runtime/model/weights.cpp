#include "runtime/model/weights.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <exception>

#include "runtime/formats/packing.h"

namespace vkqat {

namespace {

// Stands behind what owns buffers while they are filled: when an error (or a load that is cancelled) goes through, the copies
// that are on their way arrive before the buffers go.
class Landed {
public:
    explicit Landed(Uploader* uploader) : uploader_(uploader) {}
    Landed(const Landed&) = delete;
    Landed& operator=(const Landed&) = delete;
    ~Landed() {
        if (!uploader_ || std::uncaught_exceptions() == before_) return;
        try {
            uploader_->finish();
        } catch (const Error&) {
            // The device is lost: nothing runs any more.
        }
    }

private:
    Uploader* uploader_;
    int before_ = std::uncaught_exceptions();
};

}  // namespace

void LlamaWeights::count(uint64_t bytes) {
    bytes_ += bytes;
    if (progress_) progress_(bytes_, total_);
}

Buffer LlamaWeights::allocate(uint64_t bytes, const std::string& what) {
    device_bytes_ += bytes;
    return planned_ ? Buffer() : device_.allocate(bytes, what);
}

LlamaWeights::Placed LlamaWeights::place(const TensorView& view) {
    Shape shape = view.shape.size() == 1 ? Shape{view.shape[0]} : Shape{view.shape.at(0), view.shape.at(1)};
    const uint64_t bytes = uint64_t(shape.elements()) * vkqat::bytes(view.dtype);
    Placed p{allocate(bytes, view.name), shape, view.dtype, view.name};
    const Landed landed(uploader_.get());
    if (planned_) return p;
    RawBytes storage;
    uploader_->copy(p.buffer, 0, contents(view, storage));
    count(bytes);
    return p;
}

LlamaWeights::Placed LlamaWeights::vector(const ModelFiles& files, const std::string& name, int64_t size) {
    const TensorView& view = files.get(name, std::vector<int64_t>{size});
    if (!is_float(view.dtype))
        fail("{}: tensor {}: expected a float type, found {}", files.directory().string(), name, vkqat::name(view.dtype));
    return place(view);
}

// Matrices of the same number of columns below one another, in one buffer.
LlamaWeights::Placed LlamaWeights::dense(const ModelFiles& files, const std::vector<std::string>& names, int64_t cols,
                                         const std::vector<int64_t>& rows) {
    int64_t all_rows = 0;
    for (int64_t r : rows) all_rows += r;
    DType type = files.get(names[0]).dtype;
    Placed p{{}, {all_rows, cols}, type, names[0]};
    const Landed landed(uploader_.get());
    if (!is_float(type))
        fail("{}: tensor {}: expected a float type, found {}", files.directory().string(), names[0], vkqat::name(type));
    p.buffer = allocate(uint64_t(all_rows * cols) * vkqat::bytes(type), names[0]);
    uint64_t offset = 0;
    for (size_t i = 0; i < names.size(); i++) {
        const TensorView& view = files.get(names[i], std::vector<int64_t>{rows[i], cols});
        if (view.dtype != type)
            fail("{}: tensors {} and {} have different types", files.directory().string(), names[0], names[i]);
        if (planned_) continue;
        RawBytes storage;
        std::span<const std::byte> data = contents(view, storage);
        uploader_->copy(p.buffer, offset, data);
        offset += data.size();
        count(data.size());
    }
    return p;
}

PackedLayer LlamaWeights::Packed::layer(Graph& g) const {
    auto tensor = [&](const Placed& p) { return g.external(p.buffer, 0, p.shape, p.dtype, p.name); };
    return {tensor(indices), tensor(scales), tensor(centroids), bits, block_size, in, rows};
}

LlamaWeights::Packed LlamaWeights::empty_packed(const std::vector<int64_t>& rows, int64_t in, int bits, int64_t block_size,
                                                const std::string& name) {
    PackedExtents extents = packed_extents(rows, in, bits, block_size);
    auto place_empty = [&](const Shape& shape, DType type, const char* what) {
        std::string label = name + what;
        return Placed{allocate(uint64_t(shape.elements()) * vkqat::bytes(type), label), shape, type, label};
    };
    return {place_empty({extents.words}, DType::u32, ".weight_packed"),
            place_empty({extents.scales}, DType::bf16, ".scales"),
            place_empty({int64_t(rows.size()), int64_t(1) << bits}, DType::f32, ".centroids"),
            bits,
            block_size,
            in,
            rows};
}

namespace {

// The middle of a table, about which that of weights with a zero point is laid: then its values and the offsets are small.
float middle(std::span<const float> table) { return (table.front() + table.back()) / 2; }

// The table as the device has it: about its middle for zero points.
std::vector<float> device_table(const PackedLinear& part) {
    std::vector<float> table = read_floats(*part.centroids);
    const float center = part.zeros ? middle(table) : 0;
    for (float& c : table) c -= center;
    return table;
}

// The tables of parts below one another, only what is above 0 or below it.
std::vector<float> one_side(const std::vector<PackedLinear>& parts, bool below) {
    std::vector<float> tables;
    for (const PackedLinear& part : parts)
        for (float c : read_floats(*part.centroids)) tables.push_back(below ? std::min(c, 0.f) : std::max(c, 0.f));
    return tables;
}

}  // namespace

// Several layers of one width below one another. Their rows go through pinned memory in pieces, and the device puts them into
// tiles.
void LlamaWeights::add_packed(Matrix& to, const std::vector<PackedLinear>& parts, const std::string& name) {
    std::vector<int64_t> rows;
    for (const PackedLinear& part : parts) rows.push_back(part.out);
    const bool two_sides = parts[0].negative_scales != nullptr;
    Packed p = empty_packed(rows, parts[0].in, parts[0].bits, parts[0].block_size, name);
    OfBlocks of_blocks;
    const Landed landed(uploader_.get());
    if (two_sides) {
        const std::string label = name + ".negative_scales";
        of_blocks.negative_scales.push_back(
            {allocate(uint64_t(p.scales.shape.elements()) * 2, label), p.scales.shape, DType::bf16, label});
        of_blocks.above.push_back(place_floats(one_side(parts, false), p.centroids.shape, name + ".above"));
        of_blocks.below.push_back(place_floats(one_side(parts, true), p.centroids.shape, name + ".below"));
    }
    if (parts[0].zeros) {
        of_blocks.center = middle(read_floats(*parts[0].centroids));
        of_blocks.zeros.push_back(place_zeros(p, parts, name + ".zeros"));
    }
    PackedExtents extents = packed_extents(p.rows, p.in, p.bits, p.block_size);
    const uint64_t row_bytes = uint64_t(packed_row_bytes(p.in, p.bits)), scale_bytes = uint64_t(extents.blocks) * 2;
    for (size_t i = 0; i < parts.size() && !planned_; i++) {
        const PackedLinear& part = parts[i];
        const auto piece_rows = int64_t((uploader_->piece_bytes() - 1024) / (row_bytes + 2 * scale_bytes) / 32 * 32);
        if (piece_rows == 0) fail("{}: rows of {} bytes are too long", name, row_bytes);
        for (int64_t row = 0; row < part.out; row += piece_rows) {
            const int64_t n = std::min(piece_rows, part.out - row);
            auto scales_of = [&](const TensorView& scales) {
                return scales.bytes.subspan(uint64_t(row) * scale_bytes, uint64_t(n) * scale_bytes);
            };
            const uint64_t stored_row = part.ternary ? uint64_t(ternary_row_bytes(p.in)) : row_bytes;
            std::span<const std::byte> indices =
                part.weight_packed->bytes.subspan(uint64_t(row) * stored_row, uint64_t(n) * stored_row);
            count(indices.size());
            std::vector<uint8_t> two_bits;
            if (part.ternary) {
                const std::span stored(reinterpret_cast<const uint8_t*>(indices.data()), indices.size());
                two_bits = in_context(name, [&] { return pack_indices(unpack_ternary(stored, p.in), p.in, 2); });
                indices = std::as_bytes(std::span<const uint8_t>(two_bits));
            }
            std::vector<std::span<const std::byte>> pieces{indices, scales_of(*part.scales)};
            if (two_sides) pieces.push_back(scales_of(*part.negative_scales));
            uploader_->run(pieces, [&](Graph& g, const Buffer& piece, std::span<const uint64_t> offsets) {
                PackedLayer layer = p.layer(g);
                Tensor packed = g.external(piece, offsets[0], {n, int64_t(row_bytes)}, DType::u8, "packed");
                auto tile = [&](size_t scales) {
                    tile_packed(g, packed, g.external(piece, offsets[scales], {n, extents.blocks}, DType::bf16, "scales"), layer,
                                packed_parts(layer).first_tile[i] + row / 32);
                };
                tile(1);
                if (!two_sides) return;
                const Placed& scales = of_blocks.negative_scales[0];
                layer.scales = g.external(scales.buffer, 0, scales.shape, DType::bf16, scales.name);
                tile(2);  // with the same indices once more
            });
            for (const auto& bytes : std::span(pieces).subspan(1)) count(bytes.size());
        }
        const uint64_t table_bytes = part.centroids->bytes.size();
        uploader_->copy(p.centroids.buffer, i * table_bytes, std::as_bytes(std::span<const float>(device_table(part))));
        count(table_bytes);
    }
    to.packed.push_back(std::move(p));
    if (two_sides || parts[0].zeros) to.of_blocks.push_back(std::move(of_blocks));
}

TernaryLayer LlamaWeights::Ternary::layer(Graph& g) const {
    auto tensor = [&](const Placed& p) { return g.external(p.buffer, 0, p.shape, p.dtype, p.name); };
    return {tensor(indices), tensor(scales), tensor(centroids), five_to_a_byte, in, rows};
}

LlamaWeights::Ternary LlamaWeights::empty_ternary(const std::vector<int64_t>& rows, int64_t in, bool five_to_a_byte,
                                                  const std::string& name) {
    Ternary t{.five_to_a_byte = five_to_a_byte, .in = in, .rows = rows};
    auto place_empty = [&](const Shape& shape, DType type, const char* what) {
        return Placed{allocate(uint64_t(shape.elements()) * vkqat::bytes(type), name + what), shape, type, name + what};
    };
    int64_t out = 0;
    for (int64_t r : rows) out += r;
    t.indices = place_empty({ternary_words(rows, in, five_to_a_byte)}, DType::u32, ".weight_packed");
    t.scales = place_empty({out}, DType::bf16, ".scales");
    t.centroids = place_empty({int64_t(rows.size()), 4}, DType::f32, ".centroids");
    return t;
}

// Ternary layers whose inputs are integers, of one width and packing. Error if an index is none of three.
void LlamaWeights::add_ternary(Matrix& to, const std::vector<PackedLinear>& parts, const std::string& name) {
    std::vector<int64_t> rows;
    for (const PackedLinear& part : parts) rows.push_back(part.out);
    Ternary t = empty_ternary(rows, parts[0].in, parts[0].ternary, name);
    const Landed landed(uploader_.get());
    int64_t tile = 0, row_of_all = 0;
    for (size_t i = 0; i < parts.size() && !planned_; i++) {
        const PackedLinear& part = parts[i];
        const std::span stored(reinterpret_cast<const uint8_t*>(part.weight_packed->bytes.data()),
                               part.weight_packed->bytes.size());
        for (size_t n = 0; n < stored.size(); n++)
            if (part.ternary ? stored[n] > 242 : (stored[n] & stored[n] >> 1 & 0x55) != 0)
                fail("{}: weight_packed: byte {} is {}, which is no ternary weights", name, n, stored[n]);
        const uint64_t row_bytes = stored.size() / uint64_t(part.out);
        const auto piece_rows = int64_t((uploader_->piece_bytes() - 1024) / row_bytes / 32 * 32);
        if (piece_rows == 0) fail("{}: rows of {} bytes are too long", name, row_bytes);
        for (int64_t row = 0; row < part.out; row += piece_rows) {
            const int64_t n = std::min(piece_rows, part.out - row);
            const std::span<const std::byte> pieces[] = {
                part.weight_packed->bytes.subspan(uint64_t(row) * row_bytes, uint64_t(n) * row_bytes)};
            uploader_->run(pieces, [&](Graph& g, const Buffer& piece, std::span<const uint64_t> offsets) {
                tile_ternary(g, g.external(piece, offsets[0], {n, int64_t(row_bytes)}, DType::u8, "packed"), t.layer(g),
                             tile + row / 32);
            });
            count(pieces[0].size());
        }
        tile += (part.out + 31) / 32;
        uploader_->copy(t.scales.buffer, uint64_t(row_of_all) * 2, part.scales->bytes);
        uploader_->copy(t.centroids.buffer, i * 16, part.centroids->bytes);
        row_of_all += part.out;
        count(part.scales->bytes.size() + part.centroids->bytes.size());
    }
    to.ternary.push_back(std::move(t));
}

// The zero points of parts below one another, in the order of the device's scales.
LlamaWeights::Placed LlamaWeights::place_zeros(const Packed& to, const std::vector<PackedLinear>& parts,
                                               const std::string& name) {
    const int64_t blocks = to.in / to.block_size;
    Placed p{allocate(uint64_t(to.scales.shape.elements()), name), to.scales.shape, DType::u8, name};
    const Landed landed(uploader_.get());
    if (planned_) return p;
    std::vector<std::byte> zeros(size_t(to.scales.shape.elements()));
    int64_t tile = 0;
    for (const PackedLinear& part : parts) {
        for (int64_t row = 0; row < part.out; row++)
            for (int64_t b = 0; b < blocks; b++)
                zeros[size_t(((tile * 8 + row / 4) * blocks + b) * 4 + row % 4)] = part.zeros->bytes[size_t(row * blocks + b)];
        tile += (part.out + 31) / 32;
        count(part.zeros->bytes.size());
    }
    uploader_->copy(p.buffer, 0, zeros);
    return p;
}

// What is computed from the files: no bytes of the model.
LlamaWeights::Placed LlamaWeights::place_floats(const std::vector<float>& values, const Shape& shape, const std::string& name) {
    Placed p{allocate(values.size() * 4, name), shape, DType::f32, name};
    const Landed landed(uploader_.get());
    if (!planned_) uploader_->copy(p.buffer, 0, std::as_bytes(std::span(values)));
    return p;
}

// Sign matrices below one another as a packed layer of 1 bit, one block a row, scales of 1.
LlamaWeights::Onebit LlamaWeights::onebit(const std::vector<OnebitLinear>& parts, const std::string& name,
                                          const TensorView* norm) {
    std::vector<int64_t> rows;
    for (const OnebitLinear& part : parts) rows.push_back(part.out);
    const int64_t in = parts[0].in;
    Onebit result{};
    const Landed landed(uploader_.get());
    result.signs = empty_packed(rows, in, 1, in, name);
    std::vector<float> factors, normed;
    for (const OnebitLinear& part : parts) {
        result.input_factors.push_back(place(*part.input_factor));
        result.output_factors.push_back(place(*part.weight_scale));
        const std::vector<float> of_outputs = read_floats(*part.weight_scale);
        factors.insert(factors.end(), of_outputs.begin(), of_outputs.end());
        if (!norm) continue;
        const std::vector<float> of_inputs = read_floats(*part.input_factor), weight = read_floats(*norm);
        for (size_t i = 0; i < weight.size(); i++) normed.push_back(of_inputs[i] * weight[i]);
    }
    result.all_output_factors = place_floats(factors, {int64_t(factors.size())}, name + ".factors");
    const Shape of_parts = parts.size() == 1 ? Shape{in} : Shape{int64_t(parts.size()), in};
    if (norm) result.normed.push_back(place_floats(normed, of_parts, name + ".normed_factors"));
    if (planned_) return result;
    const Packed& p = result.signs;
    const uint64_t row_bytes = uint64_t(in) / 8;
    const auto piece_rows = int64_t((uploader_->piece_bytes() - 1024) / (row_bytes + 2) / 32 * 32);
    if (piece_rows == 0) fail("{}: rows of {} bytes are too long", name, row_bytes);
    int64_t tile = 0;
    for (size_t part = 0; part < parts.size(); part++) {
        for (int64_t row = 0; row < rows[part]; row += piece_rows) {
            const int64_t n = std::min(piece_rows, rows[part] - row);
            const auto from = parts[part].weight->bytes.subspan(uint64_t(row) * row_bytes, uint64_t(n) * row_bytes);
            std::vector<uint8_t> signs(from.size());  // most significant bit first
            for (size_t i = 0; i < from.size(); i++) {
                auto b = std::to_integer<uint32_t>(from[i]);
                b = (b & 0xf0) >> 4 | (b & 0x0f) << 4;
                b = (b & 0xcc) >> 2 | (b & 0x33) << 2;
                signs[i] = uint8_t((b & 0xaa) >> 1 | (b & 0x55) << 1);
            }
            const std::vector<uint16_t> ones(size_t(n), f32_to_bf16(1));
            const std::span<const std::byte> pieces[] = {std::as_bytes(std::span<const uint8_t>(signs)),
                                                         std::as_bytes(std::span<const uint16_t>(ones))};
            uploader_->run(pieces, [&](Graph& g, const Buffer& piece, std::span<const uint64_t> offsets) {
                tile_packed(g, g.external(piece, offsets[0], {n, int64_t(row_bytes)}, DType::u8, "packed"),
                            g.external(piece, offsets[1], {n, 1}, DType::bf16, "scales"), p.layer(g), tile + row / 32);
            });
            count(from.size());
        }
        tile += (rows[part] + 31) / 32;
        const float table[] = {1, -1};
        uploader_->copy(p.centroids.buffer, part * sizeof(table), std::as_bytes(std::span<const float>(table)));
    }
    return result;
}

LlamaWeights::Matrix LlamaWeights::matrix(const ModelFiles& files, const std::vector<std::string>& prefixes,
                                          const std::vector<int64_t>& rows, int64_t cols, const std::string& norm) {
    Matrix m;
    const Landed landed(uploader_.get());
    std::vector<OnebitLinear> signs;
    for (size_t i = 0; i < prefixes.size(); i++)
        if (auto part = find_onebit_linear(files, prefixes[i], rows[i], cols)) signs.push_back(*part);
    if (!signs.empty()) {
        if (signs.size() != prefixes.size())
            fail("{}: of {} and its neighbours some are sign matrices and some are not", files.directory().string(), prefixes[0]);
        m.onebit.push_back(onebit(signs, prefixes[0], norm.empty() ? nullptr : &files.get(norm, std::vector<int64_t>{cols})));
        packed_ = true;
        return m;
    }
    std::vector<PackedLinear> packed_parts;
    for (size_t i = 0; i < prefixes.size(); i++)
        if (auto part = find_packed_linear(files, prefixes[i], rows[i], cols)) packed_parts.push_back(*part);
    if (packed_parts.empty()) {
        std::vector<std::string> names;
        for (const std::string& prefix : prefixes) names.push_back(prefix + ".weight");
        m.dense.push_back(dense(files, names, cols, rows));
    } else if (packed_parts.size() != prefixes.size()) {
        fail("{}: of {} and its neighbours some are packed and some are not", files.directory().string(), prefixes[0]);
    } else {
        packed_ = true;
        for (const PackedLinear& part : packed_parts) {
            const PackedLinear& first = packed_parts[0];
            if (!part.zeros != !first.zeros || !part.negative_scales != !first.negative_scales ||
                (part.zeros && part.block_size != first.block_size))
                fail("{}: {} and its neighbours have different quantizers, or zero points for blocks of different sizes",
                     files.directory().string(), prefixes[0]);
        }
        // On CPUs products in integers are slower than those of all packed layers (a matvec of 1024 x 1024 on lavapipe 1.7 ms
        // against 0.3).
        const bool cpu = device_.capabilities().kind == DeviceKind::cpu;
        const bool integers =
            !cpu && quantize_inputs_ && std::all_of(packed_parts.begin(), packed_parts.end(), [](const PackedLinear& p) {
                const std::vector<float> table = read_floats(*p.centroids);
                return p.bits == 2 && p.block_size == p.in && !p.zeros && !p.negative_scales && table[1] == 0 &&
                       table[0] == -table[2];
            });
        for (size_t i = 0; i < packed_parts.size();) {  // neighbours of one kind become one layer
            std::vector<PackedLinear> same;
            const PackedLinear& first = packed_parts[i];
            std::string name = prefixes[i];
            auto like_first = [&](const PackedLinear& part) {
                return part.bits == first.bits && part.block_size == first.block_size && part.ternary == first.ternary &&
                       (!part.zeros || middle(read_floats(*part.centroids)) == middle(read_floats(*first.centroids)));
            };
            while (i < packed_parts.size() && like_first(packed_parts[i])) same.push_back(packed_parts[i++]);
            if (integers)
                add_ternary(m, same, name);
            else
                add_packed(m, same, name);
        }
    }
    return m;
}

LlamaWeights::LlamaWeights(Device& device, const std::filesystem::path& model_directory, const Progress& progress)
    : device_(device), config_(read_llama_config(model_directory)), progress_(progress) {
    load(model_directory);
}

LlamaWeights::LlamaWeights(Device& device, const std::filesystem::path& model_directory, Planned)
    : device_(device), config_(read_llama_config(model_directory)), planned_(true) {
    load(model_directory);
}

// Lets go of the mapped pages that were read, so that this process never holds the whole model; they stay in the system's cache.
static void forget_pages(const ModelFiles& files) {
    const auto page = uint64_t(sysconf(_SC_PAGESIZE));
    for (const SafetensorsFile& file : files.files()) {
        if (file.tensors().empty()) continue;
        const auto begin = reinterpret_cast<uintptr_t>(file.tensors().front().bytes.data()) / page * page;
        const auto end = reinterpret_cast<uintptr_t>(file.tensors().back().bytes.data()) + file.tensors().back().bytes.size();
        madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);  // of a read-only mapping nothing can be lost
    }
}

void LlamaWeights::load(const std::filesystem::path& model_directory) {
    ModelFiles files = ModelFiles::open(model_directory);
    total_ = files.total_bytes();
    const LlamaConfig& c = config_;
    quantize_inputs_ = files.quantization() && files.quantization()->activation_bits > 0;
    if (quantize_inputs_) bitlinear_norm_ = parse_bitlinear_norm(files.quantization()->bitlinear_norm);
    if (bitlinear_norm_ != BitlinearNorm::none) {
        const std::vector<float> ones(size_t(std::max({c.hidden_size, c.q_dim(), c.intermediate_size})), 1.f);
        ones_ = allocate(ones.size() * 4, "weights of norms");
        if (!planned_) device_.upload(ones_, 0, std::as_bytes(std::span(ones)));
    }
    if (!planned_) {
        uint64_t free = device_.free_memory();
        if (total_ > free)
            fail("{}: its weights take {:.1f} GB, but {} has about {:.1f} GB free; choose fewer bits or a smaller model",
                 model_directory.string(), double(total_) / 1e9, device_.capabilities().name, double(free) / 1e9);
        uploader_ = std::make_unique<Uploader>(device_, std::clamp<uint64_t>(total_ / 4, uint64_t(1) << 20, uint64_t(64) << 20));
    }
    in_context(model_directory.string(), [&] {
        embedding_ = dense(files, {"model.embed_tokens.weight"}, c.hidden_size, {c.vocab_size});
        for (int64_t i = 0; i < c.layers; i++) {
            forget_pages(files);
            std::string p = fmt::format("model.layers.{}.", i);
            Layer layer;
            const Landed landed(uploader_.get());
            layer.attention_norm = vector(files, p + "input_layernorm.weight", c.hidden_size);
            layer.mlp_norm = vector(files, p + "post_attention_layernorm.weight", c.hidden_size);
            layer.qkv = matrix(files, {p + "self_attn.q_proj", p + "self_attn.k_proj", p + "self_attn.v_proj"},
                               {c.q_dim(), c.kv_dim(), c.kv_dim()}, c.hidden_size, p + "input_layernorm.weight");
            layer.o = matrix(files, {p + "self_attn.o_proj"}, {c.hidden_size}, c.q_dim());
            layer.gate_up = matrix(files, {p + "mlp.gate_proj", p + "mlp.up_proj"}, {c.intermediate_size, c.intermediate_size},
                                   c.hidden_size, p + "post_attention_layernorm.weight");
            layer.down = matrix(files, {p + "mlp.down_proj"}, {c.hidden_size}, c.intermediate_size);
            layers_.push_back(std::move(layer));
        }
        forget_pages(files);
        norm_ = vector(files, "model.norm.weight", c.hidden_size);
        if (!c.tie_word_embeddings) head_ = dense(files, {"lm_head.weight"}, c.hidden_size, {c.vocab_size});
    });
    if (uploader_) uploader_->finish();
    uploader_.reset();
    progress_ = {};
}

uint64_t LlamaWeights::bytes_per_token() const { return bytes_ - (config_.tie_word_embeddings ? 0 : embedding_.buffer.bytes()); }

LlamaTensors LlamaWeights::tensors(Graph& g) const {
    auto tensor = [&](const Placed& p) { return g.external(p.buffer, 0, p.shape, p.dtype, p.name); };
    auto linear = [&](const Matrix& m) {
        Linear l;
        if (!m.dense.empty()) l.dense = tensor(m.dense[0]);
        for (const Packed& p : m.packed) l.packed.push_back(p.layer(g));
        for (const Ternary& t : m.ternary) l.ternary.push_back(t.layer(g));
        for (const Onebit& o : m.onebit) {
            l.onebit_signs = o.signs.layer(g);
            for (size_t i = 0; i < o.input_factors.size(); i++)
                l.packed_onebit.push_back(
                    {packed_part(g, l.onebit_signs, i), tensor(o.input_factors[i]), tensor(o.output_factors[i])});
            l.onebit_factors = tensor(o.all_output_factors);
            if (!o.normed.empty()) l.onebit_normed = tensor(o.normed[0]);
        }
        for (const OfBlocks& b : m.of_blocks) {
            PackedAsymmetry asymmetry{.center = b.center};
            if (!b.zeros.empty()) asymmetry.zeros = tensor(b.zeros[0]);
            if (!b.negative_scales.empty()) {
                asymmetry.negative_scales = tensor(b.negative_scales[0]);
                l.above.push_back(tensor(b.above[0]));
                l.below.push_back(tensor(b.below[0]));
            }
            l.of_blocks.push_back(asymmetry);
        }
        return l;
    };
    LlamaTensors model;
    model.embedding = tensor(embedding_);
    for (const Layer& layer : layers_)
        model.layers.push_back({tensor(layer.attention_norm), tensor(layer.mlp_norm), linear(layer.qkv), linear(layer.o),
                                linear(layer.gate_up), linear(layer.down)});
    if (quantize_inputs_)
        use_bitlinear(model, config_, bitlinear_norm_,
                      [&](int64_t n) { return g.external(ones_, 0, {n}, DType::f32, "weights of norms"); });
    model.norm = tensor(norm_);
    model.head = config_.tie_word_embeddings ? model.embedding : tensor(head_);
    return model;
}

}  // namespace vkqat
