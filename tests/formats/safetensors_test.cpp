#include "runtime/formats/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/formats/fixtures.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;

std::string with_length(std::string_view header, std::string_view data = "") {
    uint64_t size = header.size();
    return std::string(reinterpret_cast<const char*>(&size), 8) + std::string(header) + std::string(data);
}

class Safetensors : public testing::Test {
protected:
    ScratchFolder scratch;

    fs::path file(std::string_view content) {
        fs::path path = scratch / "a.safetensors";
        write_file(path, content);
        return path;
    }
    // The message of the Error that reading must give; it names the file.
    std::string error(std::string_view header, std::string_view data = "") {
        fs::path path = file(with_length(header, data));
        std::string message = error_of([&] { SafetensorsFile f(path); });
        EXPECT_CONTAINS(message, path.string());
        return message;
    }
};

TEST_F(Safetensors, ReadsWhatItWrote) {
    std::vector<float> a = {1, -2.5f, 1e30f};
    std::vector<uint8_t> b = {1, 2, 3, 4, 5};
    fs::path path = scratch / "a.safetensors";
    SafetensorsWriter writer(path,
                             {{"a", DType::f32, {3}},
                              {"nothing", DType::bf16, {0, 7}},
                              {"b \"quoted\" \u00e4", DType::u8, {5, 1}},
                              {"scalar", DType::i64, {}}},
                             {{"format", "pt"}, {"who", "a\nb"}});
    writer.write("a", std::as_bytes(std::span(a)).first(5));  // pieces end anywhere
    writer.write("a", std::as_bytes(std::span(a)).subspan(5));
    writer.write("b \"quoted\" \u00e4", std::as_bytes(std::span(b)));
    int64_t scalar = -7;
    writer.write("scalar", std::as_bytes(std::span(&scalar, 1)));
    EXPECT_FALSE(fs::exists(path));
    writer.finish();

    SafetensorsFile read(path);
    ASSERT_EQ(read.tensors().size(), 4u);
    EXPECT_EQ(read.tensors()[0].name, "a");
    EXPECT_EQ(read.tensors()[2].shape, (std::vector<int64_t>{5, 1}));
    EXPECT_EQ(read_floats(read.get("a")), a);
    EXPECT_EQ(read.get("nothing").shape, (std::vector<int64_t>{0, 7}));
    EXPECT_TRUE(read.get("nothing").bytes.empty());
    EXPECT_EQ(read.get("b \"quoted\" \u00e4").bytes.size(), 5u);
    EXPECT_EQ(read.get("scalar").dtype, DType::i64);
    EXPECT_EQ(std::memcmp(read.get("scalar").bytes.data(), &scalar, 8), 0);
    EXPECT_EQ(read.metadata().at("who"), "a\nb");
    EXPECT_EQ(read.find("c"), nullptr);
    EXPECT_CONTAINS(error_of([&] { read.get("c"); }), "has no tensor 'c'");
    // The data begins at a multiple of 8.
    uint64_t header = 0;
    std::memcpy(&header, read_text_file(path).data(), 8);
    EXPECT_EQ(header % 8, 0u);
}

TEST_F(Safetensors, ConvertsEveryFloatType) {
    std::vector<float> values = {0, 1, -1.5f, 0.333251953125f, 65504};  // the fourth is an f16, but no bf16
    fs::path path = scratch / "a.safetensors";
    SafetensorsWriter writer(
        path, {{"f32", DType::f32, {5}}, {"f16", DType::f16, {5}}, {"bf16", DType::bf16, {5}}, {"u8", DType::u8, {1}}});
    for (DType type : {DType::f32, DType::f16, DType::bf16}) writer.write(name(type), to_bytes(values, type));
    std::byte one{1};
    writer.write("u8", std::span(&one, 1));
    writer.finish();
    SafetensorsFile read(path);
    EXPECT_EQ(read_floats(read.get("f32")), values);
    EXPECT_EQ(read_floats(read.get("f16")), values);
    std::vector<float> bf16 = read_floats(read.get("bf16"));
    EXPECT_EQ(bf16[2], -1.5f);
    EXPECT_EQ(bf16[3], 0.333984375f);
    EXPECT_CONTAINS(error_of([&] { read_floats(read.get("u8")); }), "tensor 'u8': expected f32, f16 or bf16, found u8");
}

TEST_F(Safetensors, ReadsTensorsInTheOrderOfTheirBytes) {
    SafetensorsFile read(file(with_length(R"({"z":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"__metadata__":{},)"
                                          R"("a":{"data_offsets":[0,1],"shape":[],"dtype":"I8"}})"
                                          "   ",
                                          "abc")));
    ASSERT_EQ(read.tensors().size(), 2u);
    EXPECT_EQ(read.tensors()[0].name, "a");
    EXPECT_EQ(read.tensors()[0].bytes[0], std::byte('a'));
    EXPECT_EQ(read.tensors()[1].bytes[1], std::byte('c'));
}

TEST_F(Safetensors, ReadsAFileWithoutTensors) { EXPECT_TRUE(SafetensorsFile(file(with_length("{}"))).tensors().empty()); }

TEST_F(Safetensors, RefusesWhatIsNoSafetensorsFile) {
    auto whole = [&](std::string_view content) { return error_of([&] { SafetensorsFile f(file(content)); }); };
    EXPECT_CONTAINS(whole(""), "0 bytes is too short");
    EXPECT_CONTAINS(whole("1234567"), "too short");
    EXPECT_CONTAINS(whole("<!DOCTYPE html><html></html>"), "is this a safetensors file?");
    EXPECT_CONTAINS(whole(std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10)), "18446744073709551615");
    EXPECT_CONTAINS(whole(with_length("{}").substr(0, 9)), "truncated");
    EXPECT_CONTAINS(error_of([&] { SafetensorsFile f(scratch / "missing"); }), "cannot open");
    EXPECT_CONTAINS(error_of([&] { SafetensorsFile f(scratch.path()); }), "no regular file");
}

TEST_F(Safetensors, RefusesBadHeaders) {
    EXPECT_CONTAINS(error("[]"), "no JSON object");
    EXPECT_CONTAINS(error(""), "not valid JSON");
    EXPECT_CONTAINS(error("{} {}"), "not valid JSON");
    EXPECT_CONTAINS(error("{\"a\":1}"), "header entry 'a': unexpected number");
    EXPECT_CONTAINS(error("{\"\xff\":{}}"), "not valid JSON");
    EXPECT_CONTAINS(error(R"({"a":{"dtype":"U8","shape":[1]}})", "x"), "tensor 'a': the header lacks its data_offsets");
    EXPECT_CONTAINS(error(R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", "x"), "lacks its shape");
    EXPECT_CONTAINS(error(R"({"a":{"shape":[1],"data_offsets":[0,1]}})", "x"), "lacks its dtype");
    EXPECT_CONTAINS(error(R"({"a":{"dtype":"Q3","shape":[1],"data_offsets":[0,1]}})", "x"), "element type 'Q3' is not supported");
    EXPECT_CONTAINS(error(R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", "x"), "key 'shape': a negative number");
    EXPECT_CONTAINS(error(R"({"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}})", "x"), "expected a whole number");
    EXPECT_CONTAINS(error(R"({"a":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}})", "x"), "unexpected string");
    EXPECT_CONTAINS(error(R"({"a":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}})", "x"), "unexpected JSON array");
    EXPECT_CONTAINS(error(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", "x"), "expected two offsets");
    EXPECT_CONTAINS(error(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,1]}})", "x"), "expected two offsets");
    EXPECT_CONTAINS(error(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":1}})", "x"), "found another");
    EXPECT_CONTAINS(error(R"({"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}})", "x"), "the key stands twice");
    EXPECT_CONTAINS(error(R"({"__metadata__":{"a":{}}})"), "unexpected JSON object");
    EXPECT_CONTAINS(error(R"({"__metadata__":{"a":1}})"), "unexpected number");
    EXPECT_CONTAINS(error(R"({"a":null})"), "unexpected null");
    EXPECT_CONTAINS(error(R"({"a":{"dtype":true}})"), "unexpected true or false");
    EXPECT_CONTAINS(error(R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})", "x"),
                    "too many dimensions");
}

TEST_F(Safetensors, RefusesBadSizesAndOffsets) {
    EXPECT_CONTAINS(error(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", "abc"), "lie outside the data of 3 bytes");
    EXPECT_CONTAINS(error(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[2,0]}})", "ab"), "end before they begin");
    EXPECT_CONTAINS(error(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,2]}})", "ab"), "are 2, but f32 [1] takes 4");
    EXPECT_CONTAINS(error(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})"), "too many elements");
    EXPECT_CONTAINS(error(R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})"), "too many elements");
    EXPECT_CONTAINS(error(R"({"a":{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,0]}})"), "below 2^63");
    EXPECT_CONTAINS(error(R"({"a":{"dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,0]}})"), "too large");
    EXPECT_CONTAINS(error(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[18446744073709551615,0]}})"), "too large");
}

TEST_F(Safetensors, RefusesOverlapsGapsAndSpareBytes) {
    std::string first = R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]})";
    EXPECT_CONTAINS(error(first + R"(,"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})", "abc"),
                    "tensor 'b': bytes 1 to 3 overlap");
    EXPECT_CONTAINS(error(first + R"(,"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})", "abcde"), "leave a gap");
    EXPECT_CONTAINS(error(first + "}", "abc"), "take 2 bytes, but 3 follow");
}

TEST_F(Safetensors, RefusesDuplicateNames) {
    EXPECT_CONTAINS(
        error(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
              "ab"),
        "'a': the name stands twice");
}

TEST_F(Safetensors, RefusesDeepJsonWithoutRecursion) {
    std::string deep(1'000'000, '[');
    EXPECT_CONTAINS(error(deep), "unexpected JSON array");
    EXPECT_CONTAINS(error("{\"a\":" + deep), "unexpected JSON array");
    EXPECT_CONTAINS(error("{\"a\":{\"shape\":" + deep), "unexpected JSON array");
    std::string objects;
    for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
    EXPECT_CONTAINS(error(objects), "found another");
}

TEST_F(Safetensors, EscapesAndCutsNamesInMessages) {
    std::string message = error("{\"a\\n\\u001b[2J" + std::string(5000, 'x') + "\":1}");
    EXPECT_CONTAINS(message, "a\\x0a\\x1b[2J");
    EXPECT_LT(message.size(), 600u);
}

TEST_F(Safetensors, WriterInsistsOnOrderAndSize) {
    fs::path path = scratch / "a.safetensors";
    std::vector<std::byte> bytes(8);
    auto make = [&] { return SafetensorsWriter(path, {{"a", DType::f32, {1}}, {"b", DType::f32, {1}}}); };
    EXPECT_CONTAINS(error_of([&] { make().write("b", bytes); }), "got bytes of tensor 'b', expected those of 'a'");
    EXPECT_CONTAINS(error_of([&] { make().write("a", bytes); }), "tensor 'a' takes 4 bytes, got at least 8");
    EXPECT_CONTAINS(error_of([&] { make().finish(); }), "tensor 'a' got 0 of its 4 bytes");
    EXPECT_CONTAINS(error_of([&] {
                        SafetensorsWriter writer(path, {{"a", DType::f32, {1}}});
                        writer.write("a", std::span(bytes).first(4));
                        writer.write("a", std::span(bytes).first(1));
                    }),
                    "expected no more");
    EXPECT_CONTAINS(error_of([&] {
                        SafetensorsWriter(path, {{"a", DType::u8, {1}}, {"a", DType::u8, {1}}});
                    }),
                    "name 'a' is taken");
    EXPECT_CONTAINS(error_of([&] { SafetensorsWriter(path, {{"__metadata__", DType::u8, {1}}}); }), "is taken");
    EXPECT_CONTAINS(error_of([&] { SafetensorsWriter(path, {{"\xff", DType::u8, {1}}}); }), "cannot be written");
    EXPECT_CONTAINS(error_of([&] { SafetensorsWriter(path, {{"a", DType::u8, {-1}}}); }), "negative size");
    EXPECT_TRUE(fs::is_empty(scratch.path()));  // and nothing stays
}

TEST_F(Safetensors, SortsAsTheReferenceLibraryDoes) {
    std::vector<TensorInfo> tensors = {{"u8", DType::u8, {}},     {"b", DType::f32, {}}, {"a", DType::f32, {}},
                                       {"bf16", DType::bf16, {}}, {"i8", DType::i8, {}}, {"i64", DType::i64, {}},
                                       {"f16", DType::f16, {}}};
    sort_by_alignment(tensors);
    std::string order;
    for (const TensorInfo& tensor : tensors) order += tensor.name + " ";
    EXPECT_EQ(order, "i64 a b bf16 f16 i8 u8 ");
}

}  // namespace
}  // namespace vkqat
