#include "runtime/formats/checkpoint.h"

#include <gtest/gtest.h>

#include "runtime/support/hash.h"
#include "tests/formats/fixtures.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;

// Bytes that depend on the tensor's name, given in two pieces.
std::vector<std::byte> content(const TensorInfo& tensor) {
    std::vector<std::byte> bytes(size_t(byte_size(tensor)));
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = std::byte(tensor.name.back() + char(i));
    return bytes;
}
void give(const TensorInfo& tensor, const TensorSink& sink) {
    std::vector<std::byte> bytes = content(tensor);
    size_t half = bytes.size() / 2;
    sink(std::span(bytes).first(half));
    sink(std::span(bytes).subspan(half));
}

// 40, 40, 200, 40, 2 bytes
const std::vector<TensorInfo> five = {{"m.a", DType::f32, {10}},
                                      {"m.b", DType::bf16, {4, 5}},
                                      {"m.c", DType::u8, {200}},
                                      {"m.d", DType::f32, {2, 5}},
                                      {"m.e", DType::f16, {1}}};

void expect_five(const fs::path& folder) {
    ModelFiles model = ModelFiles::open(folder);
    EXPECT_EQ(model.names().size(), five.size());
    EXPECT_EQ(model.total_bytes(), 322u);
    for (const TensorInfo& info : five) {
        const TensorView& tensor = model.get(info.name, info.shape);
        EXPECT_EQ(tensor.dtype, info.dtype);
        EXPECT_TRUE(std::ranges::equal(tensor.bytes, content(info))) << info.name;
    }
}

LlamaConfig small_config() {
    return {.hidden_size = 8, .intermediate_size = 16, .layers = 1, .heads = 2, .kv_heads = 1, .head_dim = 4, .vocab_size = 32};
}

TEST(Checkpoint, OneFileWhereItFits) {
    ScratchFolder scratch;
    write_tensors(scratch.path(), five, give, 322);
    EXPECT_TRUE(fs::exists(scratch / "model.safetensors"));
    EXPECT_FALSE(fs::exists(scratch / "model.safetensors.index.json"));
    expect_five(scratch.path());
    EXPECT_EQ(SafetensorsFile(scratch / "model.safetensors").metadata().at("format"), "pt");
}

TEST(Checkpoint, ShardsStayBelowTheLimit) {
    ScratchFolder scratch;
    write_tensors(scratch.path(), five, give, 90);
    expect_five(scratch.path());
    std::vector<std::string> files;
    ModelFiles model = ModelFiles::open(scratch.path());
    for (const SafetensorsFile& file : model.files()) {
        files.push_back(file.path().filename().string());
        size_t bytes = 0;
        for (const TensorView& tensor : file.tensors()) bytes += tensor.bytes.size();
        EXPECT_TRUE(bytes <= 90 || file.tensors().size() == 1) << files.back();  // the one of 200 bytes stands alone
    }
    EXPECT_EQ(files, (std::vector<std::string>{"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                                               "model-00003-of-00003.safetensors"}));
    EXPECT_CONTAINS(read_text_file(scratch / "model.safetensors.index.json"), "\"total_size\": 322");
}

TEST(Checkpoint, EveryLimitGivesAModelThatReads) {
    for (uint64_t limit : {0, 1, 2, 39, 40, 80, 81, 200, 241, 280, 321, 322}) {
        ScratchFolder scratch;
        write_tensors(scratch.path(), five, give, limit);
        expect_five(scratch.path());
    }
}

TEST(Checkpoint, NamesTheTensorThatIsMissingOrMisshapen) {
    ScratchFolder scratch;
    write_tensors(scratch.path(), five, give);
    ModelFiles model = ModelFiles::open(scratch.path());
    EXPECT_EQ(model.find("m.x"), nullptr);
    EXPECT_CONTAINS(error_of([&] { model.get("m.x"); }), scratch.path().string() + ": has no tensor 'm.x'");
    int64_t shape[] = {5, 4};
    EXPECT_CONTAINS(error_of([&] { model.get("m.b", shape); }), "tensor 'm.b': expected shape [5, 4], found [4, 5]");
    EXPECT_FALSE(model.quantization());
}

class BadIndex : public testing::Test {
protected:
    ScratchFolder scratch;
    std::string error(std::string_view index) {
        write_file(scratch / "model.safetensors.index.json", index);
        return error_of([&] { ModelFiles::open(scratch.path()); });
    }
};

TEST_F(BadIndex, MayNotLeaveTheDirectory) {
    // The file is there, so only the check of the name keeps it from being read.
    fs::create_directory(scratch / "sub");
    SafetensorsWriter writer(scratch / "sub/x.safetensors", {{"a", DType::u8, {0}}});
    writer.finish();
    for (std::string_view name : {"sub/x.safetensors", "./sub/x.safetensors", "..", "../x.safetensors", "/etc/passwd", "",
                                  "sub\\\\x.safetensors", "x.safetensors\\u0000.safetensors", "pytorch_model.bin"}) {
        EXPECT_CONTAINS(error(fmt::format(R"({{"weight_map":{{"a":"{}"}}}})", name)),
                        "tensor 'a': expected the name of a .safetensors file in the same directory");
    }
    EXPECT_CONTAINS(error(R"({"weight_map":{"a":7}})"), "found 7");
}

TEST_F(BadIndex, MustNameTheTensorsWhereTheyAre) {
    SafetensorsWriter one(scratch / "1.safetensors", {{"a", DType::u8, {0}}, {"spare", DType::u8, {0}}});
    one.finish();
    SafetensorsWriter two(scratch / "2.safetensors", {{"b", DType::u8, {0}}});
    two.finish();
    EXPECT_CONTAINS(error(R"({"weight_map":{"a":"1.safetensors","b":"1.safetensors"}})"),
                    "tensor 'b' should be in '1.safetensors', but is not");
    EXPECT_CONTAINS(error(R"({"weight_map":{"a":"2.safetensors","b":"2.safetensors"}})"),
                    "tensor 'a' should be in '2.safetensors'");
    EXPECT_CONTAINS(error(R"({"weight_map":{"a":"3.safetensors"}})"), "3.safetensors: cannot open");
    write_file(scratch / "model.safetensors.index.json", R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})");
    EXPECT_EQ(ModelFiles::open(scratch.path()).names(), (std::vector<std::string>{"a", "b"}));
}

TEST_F(BadIndex, MustBeAnIndex) {
    for (std::string_view text :
         {"", "[]", "{}", R"({"weight_map":[]})", R"({"weight_map":{}})", "{\"weight_map\":{\"a\":\"\xff\"}}"}) {
        EXPECT_CONTAINS(error(text), "model.safetensors.index.json");
    }
    EXPECT_CONTAINS(error(std::string(100000, '[')), "nested deeper than 32");
}

TEST(Checkpoint, SaysWhatADirectoryLacks) {
    ScratchFolder scratch;
    EXPECT_CONTAINS(error_of([&] { ModelFiles::open(scratch.path()); }),
                    "has neither model.safetensors nor model.safetensors.index.json");
    EXPECT_CONTAINS(error_of([&] { ModelFiles::open(scratch / "missing"); }), "is no directory");
    EXPECT_CONTAINS(error_of([&] { read_llama_config(scratch.path()); }), "has no config.json");
}

TEST(Checkpoint, DirectoryAppearsCompleteOrNotAtAll) {
    ScratchFolder scratch;
    fs::path out = scratch / "out";
    write_file(scratch / "tokenizer.json", "{}");
    ModelSettings settings{.config = small_config(),
                           .generation = GenerationConfig{.eos_token_ids = {2, 3}},
                           .copies = {scratch / "tokenizer.json"}};
    auto failing = [](const TensorInfo& tensor, const TensorSink& sink) {
        if (tensor.name == "m.b") fail("the device was lost");
        give(tensor, sink);
    };
    EXPECT_CONTAINS(error_of([&] { write_model_directory(out, settings, five, failing); }), "the device was lost");
    auto lazy = [](const TensorInfo&, const TensorSink&) {};
    EXPECT_CONTAINS(error_of([&] { write_model_directory(out, settings, five, lazy); }), "tensor 'm.a'");
    EXPECT_EQ(std::distance(fs::directory_iterator(scratch.path()), fs::directory_iterator()), 1);  // tokenizer.json alone

    write_model_directory(out, settings, five, give, 100);
    expect_five(out);
    EXPECT_EQ(read_llama_config(out), settings.config);
    EXPECT_EQ(read_generation_config(out), settings.generation);
    EXPECT_EQ(read_text_file(out / "tokenizer.json"), "{}");
    EXPECT_FALSE(fs::exists(out / "quantization_config.json"));
    EXPECT_CONTAINS(error_of([&] { write_model_directory(out, settings, five, give); }), "exists already");
}

TEST(Checkpoint, RefusesTwoTensorsOfOneName) {
    ScratchFolder scratch;
    std::vector<TensorInfo> twice = {five[0], five[0]};
    EXPECT_CONTAINS(error_of([&] { write_tensors(scratch.path(), twice, give); }), "name 'm.a' is taken");
    EXPECT_CONTAINS(error_of([&] { write_tensors(scratch.path(), twice, give, 40); }), "name 'm.a' is taken");
}

}  // namespace
}  // namespace vkqat
