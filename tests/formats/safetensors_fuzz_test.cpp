// Damaged files: each must either be read (where the damage left a valid file) or give an Error, and nothing else.
#include <gtest/gtest.h>

#include <random>

#include "runtime/formats/safetensors.h"
#include "tests/formats/fixtures.h"

namespace vkqat {
namespace {

std::string valid_file(const ScratchFolder& scratch) {
    std::filesystem::path path = scratch / "valid.safetensors";
    SafetensorsWriter writer(
        path, {{"a.weight", DType::f32, {2, 3}}, {"b", DType::bf16, {4}}, {"c", DType::u8, {1, 0}}, {"d", DType::u8, {7}}},
        {{"format", "pt"}});
    std::vector<std::byte> bytes(24, std::byte{0x3c});
    writer.write("a.weight", bytes);
    writer.write("b", std::span(bytes).first(8));
    writer.write("d", std::span(bytes).first(7));
    writer.finish();
    return read_text_file(path);
}

// True if it was read. Touches every byte of every tensor, so that a sanitizer sees a span that reaches too far.
bool reads(const std::filesystem::path& path, const std::string& content) {
    write_file(path, content);
    try {
        SafetensorsFile file(path);
        size_t total = 0;
        for (const TensorView& tensor : file.tensors()) {
            EXPECT_EQ(size_t(byte_size(tensor)), tensor.bytes.size());
            for (std::byte b : tensor.bytes) total += b == std::byte{0};
            EXPECT_EQ(file.find(tensor.name), &tensor);
        }
        EXPECT_LE(total, content.size());
        return true;
    } catch (const Error& e) {
        EXPECT_EQ(std::string(e.what()).rfind(path.string(), 0), 0u) << e.what();  // names the file
        return false;
    }
}

TEST(SafetensorsFuzz, EveryTruncationIsAnError) {
    ScratchFolder scratch;
    std::string valid = valid_file(scratch);
    EXPECT_TRUE(reads(scratch / "t", valid));
    for (size_t size = 0; size < valid.size(); ++size) EXPECT_FALSE(reads(scratch / "t", valid.substr(0, size))) << size;
}

TEST(SafetensorsFuzz, TruncatedHeadersWithTheRightLengthAreErrors) {
    ScratchFolder scratch;
    std::string valid = valid_file(scratch);
    std::string header = valid.substr(8, valid.rfind('}') + 1 - 8);
    for (uint64_t size = 0; size < header.size(); ++size) {
        std::string content =
            std::string(reinterpret_cast<const char*>(&size), 8) + header.substr(0, size) + std::string(39, 'x');
        EXPECT_FALSE(reads(scratch / "t", content)) << size;
    }
}

TEST(SafetensorsFuzz, SurvivesEveryByteOfTheHeaderReplaced) {
    ScratchFolder scratch;
    std::string valid = valid_file(scratch);
    size_t read = 0, refused = 0;
    for (size_t i = 0; i < valid.size() - 39; ++i) {
        for (char c : std::string_view("\0\xff\"{}[],:90-.e \\", 16)) {
            std::string content = valid;
            content[i] = c;
            ++(reads(scratch / "t", content) ? read : refused);
        }
    }
    EXPECT_GT(read, 0u);  // a changed letter of a name does no harm
    EXPECT_GT(refused, read);
}

TEST(SafetensorsFuzz, SurvivesRandomDamage) {
    ScratchFolder scratch;
    std::string valid = valid_file(scratch);
    std::mt19937 random(1);
    auto below = [&](size_t n) { return random() % n; };
    const char* snippets[] = {"9223372036854775807",  "-1",      "1e400",     "[[[[", "{\"a\":{", "null", "\"dtype\":",
                              "18446744073709551615", "\\ud800", "4294967296"};
    for (int round = 0; round < 4000; ++round) {
        std::string content = valid;
        for (size_t edits = 1 + below(4); edits > 0; --edits) {
            size_t at = below(content.size());
            switch (below(4)) {
                case 0: content[at] = char(random()); break;
                case 1: content.erase(at, 1 + below(8)); break;
                case 2: content.insert(at, snippets[below(std::size(snippets))]); break;
                case 3: content.insert(at, content.substr(below(content.size()), below(40))); break;
            }
            if (content.size() > 8 && below(2)) {  // keep the length plausible, so that the JSON is reached
                uint64_t size = content.size() > 47 ? content.size() - 47 : 0;
                content.replace(0, 8, reinterpret_cast<const char*>(&size), 8);
            }
            if (content.empty()) break;
        }
        reads(scratch / "t", content);
    }
}

}  // namespace
}  // namespace vkqat
