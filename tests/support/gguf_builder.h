// Makes GGUF files for tests: sound ones, and, byte by byte, damaged ones.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace vkqat::test {

template <class T>
std::string le(T value) {
    std::string bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
}
inline std::string gguf_string(std::string_view text) { return le(uint64_t(text.size())) + std::string(text); }

// Numbers of GGUF's value types.
template <class T>
constexpr uint32_t gguf_type_of() {
    if constexpr (std::is_same_v<T, bool>) return 7;
    if constexpr (std::is_same_v<T, float>) return 6;
    if constexpr (std::is_same_v<T, double>) return 12;
    if constexpr (std::is_same_v<T, uint8_t>) return 0;
    if constexpr (std::is_same_v<T, int8_t>) return 1;
    if constexpr (std::is_same_v<T, uint32_t>) return 4;
    if constexpr (std::is_same_v<T, int32_t>) return 5;
    if constexpr (std::is_same_v<T, uint64_t>) return 10;
    if constexpr (std::is_same_v<T, int64_t>) return 11;
}

struct GgufBuilder {
    uint32_t version = 3;
    uint64_t alignment = 32;  // where the tensors are laid out; say so with key("general.alignment", ...) if it is another
    std::string keys, infos, data;
    uint64_t key_count = 0, tensor_count = 0;

    // `value`: the type's number and the value's bytes.
    void raw(std::string_view key, const std::string& value) {
        keys += gguf_string(key) + value;
        ++key_count;
    }
    template <class T>
    void key(std::string_view key, T value) {
        if constexpr (std::is_arithmetic_v<T>)
            raw(key, le(gguf_type_of<T>()) + le(value));
        else
            raw(key, le(uint32_t(8)) + gguf_string(value));
    }
    template <class T>
    void array(std::string_view key, const std::vector<T>& values) {
        std::string bytes;
        if constexpr (std::is_arithmetic_v<T>) {
            for (T v : values) bytes += le(v);
            raw(key, le(uint32_t(9)) + le(gguf_type_of<T>()) + le(uint64_t(values.size())) + bytes);
        } else {
            for (const T& v : values) bytes += gguf_string(v);
            raw(key, le(uint32_t(9)) + le(uint32_t(8)) + le(uint64_t(values.size())) + bytes);
        }
    }
    // dimensions in the file's order: the contiguous one first.
    void tensor(std::string_view name, const std::vector<uint64_t>& dimensions, uint32_t type, std::string_view bytes) {
        data.resize((data.size() + alignment - 1) / alignment * alignment);
        tensor_at(name, dimensions, type, data.size());
        data += bytes;
    }
    void tensor_at(std::string_view name, const std::vector<uint64_t>& dimensions, uint32_t type, uint64_t offset) {
        infos += gguf_string(name) + le(uint32_t(dimensions.size()));
        for (uint64_t d : dimensions) infos += le(d);
        infos += le(type) + le(offset);
        ++tensor_count;
    }
    std::string header() const { return "GGUF" + le(version) + le(tensor_count) + le(key_count) + keys + infos; }
    std::string file() const {
        std::string all = header();
        all.resize((all.size() + alignment - 1) / alignment * alignment);
        return all + data;
    }
};

}  // namespace vkqat::test
