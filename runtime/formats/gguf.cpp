#include "runtime/formats/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "runtime/formats/json_text.h"
#include "runtime/formats/safetensors.h"
#include "runtime/support/error.h"

namespace vkqat {
namespace {

// What no real file comes near, so that a hostile one cannot ask for much memory.
constexpr uint64_t max_keys = 1 << 16, max_tensors = 1 << 17, max_strings = 1 << 24, max_name = 255, max_alignment = 1 << 16;
constexpr int max_depth = 4, max_rank = 4;

struct ValueType {
    std::string_view name;
    uint64_t bytes;  // the least that a value takes
};
constexpr ValueType value_types[] = {{"uint8", 1},  {"int8", 1},    {"uint16", 2}, {"int16", 2},  {"uint32", 4},
                                     {"int32", 4},  {"float32", 4}, {"bool", 1},   {"string", 8}, {"array", 12},
                                     {"uint64", 8}, {"int64", 8},   {"float64", 8}};

bool is_integer(GgufType type) { return type <= GgufType::i32 || type == GgufType::u64 || type == GgufType::i64; }
bool is_signed(GgufType type) {
    return type == GgufType::i8 || type == GgufType::i16 || type == GgufType::i32 || type == GgufType::i64;
}
bool is_real(GgufType type) { return type == GgufType::f32 || type == GgufType::f64; }

template <class T>
T load(const std::byte* p) {
    T value;
    std::memcpy(&value, p, sizeof value);
    return value;
}

uint64_t load_unsigned(GgufType type, const std::byte* p) {
    if (type == GgufType::u8) return load<uint8_t>(p);
    if (type == GgufType::u16) return load<uint16_t>(p);
    if (type == GgufType::u32) return load<uint32_t>(p);
    return load<uint64_t>(p);
}
int64_t load_signed(GgufType type, const std::byte* p) {
    if (type == GgufType::i8) return load<int8_t>(p);
    if (type == GgufType::i16) return load<int16_t>(p);
    if (type == GgufType::i32) return load<int32_t>(p);
    return load<int64_t>(p);
}
double load_real(GgufType type, const std::byte* p) { return type == GgufType::f32 ? double(load<float>(p)) : load<double>(p); }

bool is_printable(std::string_view text) {
    return std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7f; });
}

// Reads from the front of the file; errors say what was being read.
class Cursor {
public:
    explicit Cursor(std::span<const std::byte> bytes) : bytes_(bytes) {}
    uint64_t position() const { return position_; }
    uint64_t left() const { return bytes_.size() - position_; }

    std::span<const std::byte> take(uint64_t size) {
        if (size > left()) {
            fail("{}: expected {} bytes at byte {}, but {} are left; is the file truncated?", what, size, position_, left());
        }
        position_ += size;
        return bytes_.subspan(position_ - size, size);
    }
    template <class T>
    T number() {
        return load<T>(take(sizeof(T)).data());
    }
    std::string_view string() {
        std::span<const std::byte> text = take(number<uint64_t>());
        return {reinterpret_cast<const char*>(text.data()), text.size()};
    }
    std::string name() {
        std::string_view text = string();
        if (text.empty() || text.size() > max_name || !is_printable(text)) {
            fail("{}: expected a name of 1 to {} printable ASCII characters, found {} bytes: '{}'", what, max_name, text.size(),
                 printable(text, 60));
        }
        return std::string(text);
    }
    GgufType type() {
        uint32_t number_of_type = number<uint32_t>();
        if (number_of_type >= std::size(value_types)) {
            fail("{}: the type {} is unknown (0 to {} are)", what, number_of_type, std::size(value_types) - 1);
        }
        return GgufType(number_of_type);
    }

    GgufArray array(int depth) {
        GgufArray array{.type = type()};
        array.count = number<uint64_t>();
        const ValueType& type = value_types[size_t(array.type)];
        if (array.count > left() / type.bytes) {
            fail("{}: an array of {} {} values cannot be in the {} bytes that are left; is the file damaged?", what, array.count,
                 type.name, left());
        }
        const uint64_t begin = position_;
        if (array.type == GgufType::string) {
            strings += array.count;
            if (strings > max_strings) fail("{}: more than {} strings in the file", what, max_strings);
            array.strings.reserve(array.count);
            for (uint64_t i = 0; i < array.count; ++i) array.strings.push_back(string());
        } else if (array.type == GgufType::array) {
            if (depth == max_depth) fail("{}: arrays are nested deeper than {} levels", what, max_depth);
            for (uint64_t i = 0; i < array.count; ++i) this->array(depth + 1);
        } else {
            take(array.count * type.bytes);
        }
        array.bytes = bytes_.subspan(begin, position_ - begin);
        return array;
    }

    GgufValue value() {
        GgufValue v{.type = type(), .value = uint64_t(0)};
        if (v.type == GgufType::string) {
            v.value = string();
        } else if (v.type == GgufType::array) {
            v.value = array(1);
        } else {
            const std::byte* p = take(value_types[size_t(v.type)].bytes).data();
            if (v.type == GgufType::boolean) {
                if (uint8_t(*p) > 1) fail("{}: expected true (1) or false (0), found {}", what, uint8_t(*p));
                v.value = uint8_t(*p) == 1;
            } else if (is_real(v.type)) {
                v.value = load_real(v.type, p);
            } else if (is_signed(v.type)) {
                v.value = load_signed(v.type, p);
            } else {
                v.value = load_unsigned(v.type, p);
            }
        }
        return v;
    }

    std::string what;      // that is being read
    uint64_t strings = 0;  // in arrays so far

private:
    std::span<const std::byte> bytes_;
    uint64_t position_ = 0;
};

void check_version(uint32_t version) {
    if (version == 2 || version == 3) return;
    if (version == 1) fail("GGUF version 1 is not supported; convert the model anew with a llama.cpp of 2023-11 or later");
    if (version == 0x02000000 || version == 0x03000000) fail("a big-endian GGUF file, which is not supported");
    fail("GGUF version {} is not supported; expected 2 or 3", version);
}

// Everything of a tensor but its bytes, and the offset and size of these.
struct Placed {
    GgufTensor tensor;
    uint64_t offset, size;
};

Placed read_tensor(Cursor& cursor, uint64_t number, uint64_t alignment) {
    Placed placed{};
    GgufTensor& tensor = placed.tensor;
    cursor.what = fmt::format("name of tensor number {}", number);
    tensor.name = cursor.name();
    cursor.what = fmt::format("tensor '{}'", tensor.name);
    uint32_t rank = cursor.number<uint32_t>();
    if (rank < 1 || rank > max_rank) fail("{}: expected 1 to {} dimensions, found {}", cursor.what, max_rank, rank);
    for (uint32_t d = 0; d < rank; ++d) {
        uint64_t size = cursor.number<uint64_t>();
        if (size < 1 || size > uint64_t(INT64_MAX)) fail("{}: dimension {} is {}", cursor.what, d, size);
        tensor.shape.insert(tensor.shape.begin(), int64_t(size));
    }
    uint32_t id = cursor.number<uint32_t>();
    tensor.type = find_block_type(id);
    if (!tensor.type) fail("{}: its element type {} is unknown; expected {}", cursor.what, id, readable_block_types());
    if (tensor.shape.back() % tensor.type->elements != 0) {
        fail("{}: rows of {} elements are no whole number of {}'s blocks of {}", cursor.what, tensor.shape.back(),
             tensor.type->name, tensor.type->elements);
    }
    uint64_t blocks = 1;
    bool overflow = false;
    for (int64_t size : tensor.shape) overflow = overflow || __builtin_mul_overflow(blocks, uint64_t(size), &blocks);
    overflow = overflow || __builtin_mul_overflow(blocks / uint64_t(tensor.type->elements), tensor.type->bytes, &placed.size);
    if (overflow || placed.size > uint64_t(INT64_MAX)) {
        fail("{}: shape {} has too many elements", cursor.what, shape_text(tensor.shape));
    }
    placed.offset = cursor.number<uint64_t>();
    if (placed.offset % alignment != 0) {
        fail("{}: its offset {} is no multiple of the alignment {}", cursor.what, placed.offset, alignment);
    }
    return placed;
}

}  // namespace

std::string_view name(GgufType type) { return value_types[size_t(type)].name; }

bool is_gguf(const std::filesystem::path& path) {
    std::string extension = path.extension().string();
    for (char& c : extension) c = c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c;
    std::error_code error;
    return extension == ".gguf" && !std::filesystem::is_directory(path, error);
}

GgufFile::GgufFile(const std::filesystem::path& path) : file_(path) {
    in_context(path.string(), [&] {
        std::span<const std::byte> all = file_.bytes();
        Cursor cursor(all);
        cursor.what = "beginning of the file";
        if (std::span magic = cursor.take(4); std::memcmp(magic.data(), "GGUF", 4) != 0) {
            fail("is no GGUF file: expected 'GGUF' at its beginning, found '{}'",
                 printable({reinterpret_cast<const char*>(magic.data()), 4}));
        }
        check_version(cursor.number<uint32_t>());
        const uint64_t tensors = cursor.number<uint64_t>(), keys = cursor.number<uint64_t>();
        // The least that each takes: length, a character, type and value; length, a character, rank, dimension, type and offset.
        if (keys > max_keys || keys > cursor.left() / 14) fail("{} keys cannot be in this file; is it damaged?", keys);
        if (tensors > max_tensors || tensors > cursor.left() / 33)
            fail("{} tensors cannot be in this file; is it damaged?", tensors);

        for (uint64_t i = 0; i < keys; ++i) {
            cursor.what = fmt::format("key number {}", i);
            std::string key = cursor.name();
            cursor.what = fmt::format("key '{}'", key);
            if (values_.contains(key)) fail("{} stands there twice", cursor.what);
            values_.emplace(std::move(key), cursor.value());
        }
        uint64_t alignment = 32;
        if (std::optional<uint64_t> given = count("general.alignment")) alignment = *given;
        if (!std::has_single_bit(alignment) || alignment > max_alignment) {
            fail("key 'general.alignment': expected a power of two up to {}, found {}", max_alignment, alignment);
        }

        std::vector<Placed> placed;
        for (uint64_t i = 0; i < tensors; ++i) placed.push_back(read_tensor(cursor, i, alignment));
        header_ = all.first(cursor.position());
        const uint64_t begin = (cursor.position() + alignment - 1) / alignment * alignment;
        std::span<const std::byte> data = begin < all.size() ? all.subspan(begin) : all.last(0);
        std::ranges::stable_sort(placed, {}, &Placed::offset);
        tensors_.reserve(placed.size());
        uint64_t end = 0;
        for (Placed& p : placed) {
            if (p.offset > data.size() || p.size > data.size() - p.offset) {
                fail("tensor '{}': its {} bytes at {} lie outside the data of {} bytes; is the file truncated?", p.tensor.name,
                     p.size, p.offset, data.size());
            }
            if (p.offset < end) {
                fail("tensor '{}': begins at {}, inside tensor '{}', which ends at {}", p.tensor.name, p.offset,
                     tensors_.back().name, end);
            }
            end = p.offset + p.size;
            p.tensor.bytes = data.subspan(p.offset, p.size);
            tensors_.push_back(std::move(p.tensor));
        }
        for (size_t i = 0; i < tensors_.size(); ++i) {
            if (!index_.emplace(tensors_[i].name, i).second) fail("tensor '{}' stands there twice", tensors_[i].name);
        }
    });
}

const GgufTensor* GgufFile::find(std::string_view name) const {
    auto found = index_.find(name);
    return found == index_.end() ? nullptr : &tensors_[found->second];
}

const GgufValue* GgufFile::value(std::string_view key) const {
    auto found = values_.find(key);
    return found == values_.end() ? nullptr : &found->second;
}

void GgufFile::wrong_type(std::string_view key, std::string_view expected) const {
    const GgufValue& v = *value(key);
    std::string found(name(v.type));
    if (const auto* array = std::get_if<GgufArray>(&v.value)) found = fmt::format("an array of {}", name(array->type));
    fail("{}: key '{}': expected {}, found {}", path().string(), key, expected, found);
}

bool GgufFile::has(std::string_view key) const { return value(key) != nullptr; }

std::optional<uint64_t> GgufFile::count(std::string_view key) const {
    const GgufValue* v = value(key);
    if (!v) return std::nullopt;
    if (const auto* n = std::get_if<uint64_t>(&v->value); n && *n <= uint64_t(INT64_MAX)) return *n;
    if (const auto* n = std::get_if<int64_t>(&v->value); n && *n >= 0) return uint64_t(*n);
    if (is_integer(v->type)) {
        const auto* n = std::get_if<int64_t>(&v->value);
        fail("{}: key '{}': expected 0 to 2^63 - 1, found {}", path().string(), key,
             n ? std::to_string(*n) : std::to_string(std::get<uint64_t>(v->value)));
    }
    wrong_type(key, "an integer");
}

std::optional<double> GgufFile::number(std::string_view key) const {
    const GgufValue* v = value(key);
    if (!v) return std::nullopt;
    if (const auto* n = std::get_if<uint64_t>(&v->value)) return double(*n);
    if (const auto* n = std::get_if<int64_t>(&v->value)) return double(*n);
    if (const auto* n = std::get_if<double>(&v->value)) return *n;
    wrong_type(key, "a number");
}

std::optional<bool> GgufFile::boolean(std::string_view key) const {
    const GgufValue* v = value(key);
    if (!v) return std::nullopt;
    if (const auto* n = std::get_if<bool>(&v->value)) return *n;
    wrong_type(key, "true or false");
}

std::optional<std::string_view> GgufFile::string(std::string_view key) const {
    const GgufValue* v = value(key);
    if (!v) return std::nullopt;
    if (const auto* text = std::get_if<std::string_view>(&v->value)) return *text;
    wrong_type(key, "a string");
}

const GgufArray* GgufFile::array(std::string_view key) const {
    const GgufValue* v = value(key);
    if (!v) return nullptr;
    if (const auto* array = std::get_if<GgufArray>(&v->value)) return array;
    wrong_type(key, "an array");
}

const std::vector<std::string_view>* GgufFile::strings(std::string_view key) const {
    const GgufArray* a = array(key);
    if (a && a->type != GgufType::string) wrong_type(key, "an array of strings");
    return a ? &a->strings : nullptr;
}

std::optional<std::vector<int64_t>> GgufFile::integers(std::string_view key) const {
    const GgufArray* a = array(key);
    if (!a) return std::nullopt;
    if (!is_integer(a->type)) wrong_type(key, "an array of integers");
    std::vector<int64_t> values(a->count);
    const uint64_t bytes = value_types[size_t(a->type)].bytes;
    for (size_t i = 0; i < values.size(); ++i) {
        const std::byte* p = a->bytes.data() + i * bytes;
        values[i] = is_signed(a->type) ? load_signed(a->type, p) : int64_t(load_unsigned(a->type, p));
    }
    return values;
}

std::optional<std::vector<double>> GgufFile::numbers(std::string_view key) const {
    const GgufArray* a = array(key);
    if (!a) return std::nullopt;
    if (!is_real(a->type)) wrong_type(key, "an array of floats");
    std::vector<double> values(a->count);
    for (size_t i = 0; i < values.size(); ++i) {
        values[i] = load_real(a->type, a->bytes.data() + i * value_types[size_t(a->type)].bytes);
    }
    return values;
}

}  // namespace vkqat
