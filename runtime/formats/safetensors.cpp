#include "runtime/formats/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

#include "runtime/formats/json_text.h"
#include "runtime/support/error.h"

namespace vkqat {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are stored little-endian and used as they are");

constexpr uint64_t max_header_bytes = 100'000'000;  // the reference library's bound
constexpr size_t max_rank = 16;

// In the order of the reference library's alignment.
constexpr std::pair<std::string_view, DType> dtype_names[] = {
    {"U8", DType::u8},   {"I8", DType::i8},   {"F16", DType::f16}, {"BF16", DType::bf16},
    {"I32", DType::i32}, {"U32", DType::u32}, {"F32", DType::f32}, {"I64", DType::i64},
};

size_t alignment_rank(DType dtype) {
    return size_t(std::ranges::find(dtype_names, dtype, &std::pair<std::string_view, DType>::second) - std::begin(dtype_names));
}

struct HeaderEntry {
    TensorInfo info;
    bool has_dtype = false, has_shape = false;
    std::vector<uint64_t> offsets;  // begin, end, from the end of the header
};

// Takes the header's JSON apart as it is parsed. Everything that is not exactly the format is an Error, so memory stays in
// proportion to the header and depth below four.
class HeaderReader {
public:
    explicit HeaderReader(std::string where) : where_(std::move(where)) {}

    std::vector<HeaderEntry> entries;
    std::map<std::string, std::string> metadata;

    bool start_object(size_t) {
        if (depth_ >= 2 || in_array_) fail_here("unexpected JSON object");
        if (++depth_ == 2 && !in_metadata_) entries.push_back({.info = {.name = name_}});
        return true;
    }

    bool end_object() {
        if (depth_-- == 2) {
            if (!in_metadata_) check_complete();
            in_metadata_ = false;
        }
        return true;
    }

    bool key(std::string& key) {
        if (depth_ == 1) {
            name_ = key;
            in_metadata_ = key == "__metadata__";
            if (!names_.insert(key).second) fail_here("the name stands twice in the header");
            return true;
        }
        field_ = key;
        if (in_metadata_) return true;
        const HeaderEntry& entry = entries.back();
        bool seen = key == "dtype"          ? entry.has_dtype
                    : key == "shape"        ? entry.has_shape
                    : key == "data_offsets" ? !entry.offsets.empty()
                                            : fail_here("expected the keys dtype, shape and data_offsets, found another");
        if (seen) fail_here("the key stands twice");
        return true;
    }

    bool string(std::string& value) {
        if (depth_ == 2 && in_metadata_) {
            metadata[field_] = std::move(value);
            return true;
        }
        if (depth_ != 2 || in_array_ || field_ != "dtype") fail_here("unexpected string");
        for (auto [text, dtype] : dtype_names) {
            if (text != value) continue;
            entries.back().info.dtype = dtype;
            entries.back().has_dtype = true;
            return true;
        }
        fail("{}: tensor '{}': element type '{}' is not supported; expected one of U8, I8, F16, BF16, I32, U32, F32, I64", where_,
             printable(name_), printable(value));
    }

    bool start_array(size_t) {
        if (depth_ != 2 || in_metadata_ || in_array_ || field_ == "dtype") fail_here("unexpected JSON array");
        in_array_ = true;
        return true;
    }

    bool end_array() {
        in_array_ = false;
        if (field_ == "shape") entries.back().has_shape = true;
        if (field_ == "data_offsets" && entries.back().offsets.size() != 2) fail_here("expected two offsets");
        return true;
    }

    bool number_unsigned(uint64_t value) {
        if (!in_array_) fail_here("unexpected number");
        if (value > uint64_t(INT64_MAX)) fail_here("the number is too large");
        HeaderEntry& entry = entries.back();
        if (field_ == "shape") {
            if (entry.info.shape.size() == max_rank) fail_here("too many dimensions (at most 16)");
            entry.info.shape.push_back(int64_t(value));
        } else {
            if (entry.offsets.size() == 2) fail_here("expected two offsets");
            entry.offsets.push_back(value);
        }
        return true;
    }

    bool null() { fail_here("unexpected null"); }
    bool boolean(bool) { fail_here("unexpected true or false"); }
    bool number_integer(int64_t) { fail_here("a negative number"); }
    bool number_float(double, const std::string&) { fail_here("expected a whole number below 2^63"); }
    bool binary(std::vector<uint8_t>&) { fail_here("unexpected binary value"); }
    bool parse_error(size_t, const std::string&, const nlohmann::json::exception& e) {
        fail("{}: the safetensors header is not valid JSON: {}", where_, printable(e.what(), 300));
    }

private:
    [[noreturn]] bool fail_here(const char* what) const {
        if (depth_ == 0) fail("{}: the safetensors header is no JSON object: {}", where_, what);
        if (depth_ == 1) fail("{}: header entry '{}': {}", where_, printable(name_), what);
        fail("{}: {} '{}', key '{}': {}", where_, in_metadata_ ? "header entry" : "tensor", printable(name_), printable(field_),
             what);
    }

    void check_complete() const {
        const HeaderEntry& entry = entries.back();
        for (auto [key, present] :
             {std::pair{"dtype", entry.has_dtype}, {"shape", entry.has_shape}, {"data_offsets", !entry.offsets.empty()}}) {
            if (!present) fail("{}: tensor '{}': the header lacks its {}", where_, printable(name_), key);
        }
    }

    std::string where_, name_, field_;
    std::unordered_set<std::string> names_;
    int depth_ = 0;
    bool in_metadata_ = false, in_array_ = false;
};

}  // namespace

std::string shape_text(std::span<const int64_t> shape) {
    return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", "));
}

int64_t element_count(const TensorInfo& tensor) {
    int64_t count = 1;
    bool overflow = false;
    for (int64_t size : tensor.shape) {
        if (size < 0) fail("tensor '{}': shape {} has a negative size", printable(tensor.name), shape_text(tensor.shape));
        overflow = overflow || __builtin_mul_overflow(count, size, &count);
    }
    if (overflow) fail("tensor '{}': shape {} has too many elements", printable(tensor.name), shape_text(tensor.shape));
    return count;
}

int64_t byte_size(const TensorInfo& tensor) {
    int64_t size = 0;
    if (__builtin_mul_overflow(element_count(tensor), int64_t(bytes(tensor.dtype)), &size)) {
        fail("tensor '{}': shape {} has too many elements", printable(tensor.name), shape_text(tensor.shape));
    }
    return size;
}

std::span<const std::byte> contents(const TensorView& tensor, RawBytes& storage) {
    if (!tensor.stored) return tensor.bytes;
    const size_t size = size_t(byte_size(tensor));
    storage = std::make_unique_for_overwrite<std::byte[]>(size);
    tensor.stored->convert({storage.get(), size});
    return {storage.get(), size};
}

uint64_t stored_bytes(const TensorView& tensor) { return tensor.stored ? tensor.stored->bytes : tensor.bytes.size(); }

std::string_view stored_type(const TensorView& tensor) { return tensor.stored ? tensor.stored->type : name(tensor.dtype); }

std::vector<float> read_floats(const TensorView& tensor) {
    if (!is_float(tensor.dtype)) {
        fail("tensor '{}': expected f32, f16 or bf16, found {}", printable(tensor.name), name(tensor.dtype));
    }
    RawBytes storage;
    std::span<const std::byte> data = contents(tensor, storage);
    std::vector<float> values(data.size() / bytes(tensor.dtype));
    if (values.empty()) return values;
    if (tensor.dtype == DType::f32) {
        std::memcpy(values.data(), data.data(), values.size() * sizeof(float));
        return values;
    }
    auto convert = [&](auto to_f32) {
        for (size_t i = 0; i < values.size(); ++i) {
            uint16_t half;
            std::memcpy(&half, data.data() + 2 * i, 2);
            values[i] = to_f32(half);
        }
    };
    if (tensor.dtype == DType::f16) {
        convert(f16_to_f32);
    } else {
        convert(bf16_to_f32);
    }
    return values;
}

std::vector<std::byte> to_bytes(std::span<const float> values, DType dtype) {
    if (!is_float(dtype)) fail("expected f32, f16 or bf16 to store floats in, found {}", name(dtype));
    std::vector<std::byte> result(values.size() * bytes(dtype));
    for (size_t i = 0; i < values.size(); ++i) {
        if (dtype == DType::f32) {
            std::memcpy(result.data() + 4 * i, &values[i], 4);
        } else {
            uint16_t half = dtype == DType::f16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
            std::memcpy(result.data() + 2 * i, &half, 2);
        }
    }
    return result;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
    std::string where = path.string();
    std::span<const std::byte> all = file_.bytes();
    uint64_t header_bytes = 0;
    if (all.size() < 8) fail("{}: {} bytes is too short for a safetensors file; is it truncated?", where, all.size());
    std::memcpy(&header_bytes, all.data(), 8);
    if (header_bytes > max_header_bytes) {
        fail("{}: the header's length reads {} bytes (at most {}); is this a safetensors file?", where, header_bytes,
             max_header_bytes);
    }
    if (header_bytes > all.size() - 8) {
        fail("{}: the header takes {} bytes, but only {} follow; is the file truncated?", where, header_bytes, all.size() - 8);
    }
    std::span<const std::byte> data = all.subspan(8 + header_bytes);

    HeaderReader reader(where);
    const char* text = reinterpret_cast<const char*>(all.data()) + 8;
    nlohmann::json::sax_parse(text, text + header_bytes, &reader);
    metadata_ = std::move(reader.metadata);

    for (const HeaderEntry& entry : reader.entries) {
        uint64_t begin = entry.offsets[0], end = entry.offsets[1];
        auto offsets = [&] {
            return fmt::format("{}: tensor '{}': bytes {} to {}", where, printable(entry.info.name), begin, end);
        };
        if (begin > end) fail("{} end before they begin", offsets());
        if (end > data.size()) fail("{} lie outside the data of {} bytes; is the file truncated?", offsets(), data.size());
        uint64_t expected = uint64_t(in_context(where, [&] { return byte_size(entry.info); }));
        if (end - begin != expected) {
            fail("{} are {}, but {} {} takes {}", offsets(), end - begin, name(entry.info.dtype), shape_text(entry.info.shape),
                 expected);
        }
    }
    std::ranges::stable_sort(reader.entries, {}, &HeaderEntry::offsets);
    uint64_t position = 0;
    tensors_.reserve(reader.entries.size());
    for (HeaderEntry& entry : reader.entries) {
        uint64_t begin = entry.offsets[0], end = entry.offsets[1];
        if (begin != position) {
            fail("{}: tensor '{}': bytes {} to {} {} the tensor before it, which ends at {}", where, printable(entry.info.name),
                 begin, end, begin < position ? "overlap" : "leave a gap behind", position);
        }
        position = end;
        tensors_.push_back({std::move(entry.info), data.subspan(begin, end - begin), nullptr});
    }
    if (position != data.size()) {
        fail("{}: the tensors take {} bytes, but {} follow the header", where, position, data.size());
    }
    for (size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
}

const TensorView* SafetensorsFile::find(std::string_view name) const {
    auto found = index_.find(name);
    return found == index_.end() ? nullptr : &tensors_[found->second];
}

const TensorView& SafetensorsFile::get(std::string_view name) const {
    const TensorView* tensor = find(name);
    if (!tensor) fail("{}: has no tensor '{}'", path().string(), printable(name));
    return *tensor;
}

void sort_by_alignment(std::vector<TensorInfo>& tensors) {
    std::ranges::sort(tensors, [](const TensorInfo& a, const TensorInfo& b) {
        size_t rank_a = alignment_rank(a.dtype), rank_b = alignment_rank(b.dtype);
        return rank_a != rank_b ? rank_a > rank_b : a.name < b.name;
    });
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorInfo> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : path_(path), tensors_(std::move(tensors)), file_(path) {
    std::string where = path.string(), header = "{";
    try {
        if (!metadata.empty()) header += "\"__metadata__\":" + nlohmann::json(metadata).dump();
        std::unordered_set<std::string_view> names;
        int64_t position = 0;
        for (const TensorInfo& tensor : tensors_) {
            if (!names.insert(tensor.name).second || tensor.name == "__metadata__") {
                fail("{}: tensor name '{}' is taken", where, printable(tensor.name));
            }
            if (tensor.shape.size() > max_rank) {
                fail("{}: tensor '{}' has {} dimensions (at most {})", where, printable(tensor.name), tensor.shape.size(),
                     max_rank);
            }
            int64_t begin = position;
            if (__builtin_add_overflow(position, in_context(where, [&] { return byte_size(tensor); }), &position)) {
                fail("{}: tensor '{}': the tensors together are too large", where, printable(tensor.name));
            }
            header += fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                                  header.size() > 1 ? "," : "", nlohmann::json(tensor.name).dump(),
                                  dtype_names[alignment_rank(tensor.dtype)].first, fmt::join(tensor.shape, ","), begin, position);
        }
    } catch (const nlohmann::json::exception& e) {
        fail("{}: a name cannot be written: {}", where, printable(e.what(), 300));
    }
    header += "}";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    if (header.size() > max_header_bytes) {
        fail("{}: the header of {} tensors takes {} bytes (at most {})", where, tensors_.size(), header.size(), max_header_bytes);
    }
    uint64_t header_bytes = header.size();
    file_.write(std::as_bytes(std::span(&header_bytes, 1)));
    file_.write(header);
    skip_complete();
}

void SafetensorsWriter::skip_complete() {
    while (current_ < tensors_.size() && written_ == uint64_t(byte_size(tensors_[current_]))) {
        ++current_;
        written_ = 0;
    }
}

void SafetensorsWriter::write(std::string_view name, std::span<const std::byte> bytes) {
    if (bytes.empty()) return;
    if (current_ == tensors_.size() || tensors_[current_].name != name) {
        fail("{}: got bytes of tensor '{}', expected {}", path_.string(), printable(name),
             current_ == tensors_.size() ? "no more" : fmt::format("those of '{}'", printable(tensors_[current_].name)));
    }
    uint64_t size = uint64_t(byte_size(tensors_[current_]));
    if (bytes.size() > size - written_) {
        fail("{}: tensor '{}' takes {} bytes, got at least {}", path_.string(), printable(name), size, written_ + bytes.size());
    }
    file_.write(bytes);
    written_ += bytes.size();
    skip_complete();
}

void SafetensorsWriter::finish() {
    if (current_ < tensors_.size()) {
        fail("{}: tensor '{}' got {} of its {} bytes", path_.string(), printable(tensors_[current_].name), written_,
             byte_size(tensors_[current_]));
    }
    file_.commit();
}

}  // namespace vkqat
