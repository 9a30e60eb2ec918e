// The published tokenizers against llama.cpp's test vectors, and stories260K's.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "runtime/support/files.h"
#include "runtime/text/tokenizer.h"
#include "tests/support/reference.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;

using test::data_folder;

#define SKIP_WITHOUT(path) \
    if (!fs::exists(path)) GTEST_SKIP() << (path) << " is not there: set VKQAT_DATA to the folder of test data"

// The texts stand between lines of __ggml_vocab_test__, the ids one line each.
void expect_vectors(const char* vectors, const char* tokenizer_file) {
    const fs::path folder = data_folder() / "tokenizers";
    const fs::path inputs = folder / (std::string("ggml-vocab-") + vectors + ".gguf.inp");
    SKIP_WITHOUT(inputs);
    SKIP_WITHOUT(folder / tokenizer_file);
    const Tokenizer tokenizer = load_tokenizer(folder / tokenizer_file);
    std::string text = read_text_file(inputs);
    std::istringstream ids(read_text_file(fs::path(inputs).replace_extension(".out")));
    const std::string separator = "\n__ggml_vocab_test__\n";
    size_t count = 0;
    for (size_t begin = 0; begin < text.size(); ++count) {
        const size_t end = std::min(text.find(separator, begin), text.size());
        const std::string line = text.substr(begin, end - begin);
        begin = end + separator.size();
        std::string row;
        ASSERT_TRUE(std::getline(ids, row));
        std::istringstream numbers(row);
        std::vector<TokenId> expected;
        for (TokenId id; numbers >> id;) expected.push_back(id);
        const auto found = tokenizer.encode(line, {.add_bos = false});
        EXPECT_EQ(found, expected) << line;
        EXPECT_EQ(tokenizer.decode(found), line);
    }
    EXPECT_GT(count, 40u);
}

TEST(ReferenceTokenizer, Llama3JsonMeetsLlamaCppsVectors) { expect_vectors("llama-bpe", "llama3.tokenizer.json"); }
TEST(ReferenceTokenizer, Llama3TiktokenMeetsLlamaCppsVectors) { expect_vectors("llama-bpe", "llama3.tokenizer.model"); }
TEST(ReferenceTokenizer, Llama2SentencePieceMeetsLlamaCppsVectors) { expect_vectors("llama-spm", "llama2.tokenizer.model"); }
TEST(ReferenceTokenizer, Llama2JsonMeetsLlamaCppsVectors) { expect_vectors("llama-spm", "llama2.tokenizer.json"); }
TEST(ReferenceTokenizer, Gpt2MeetsLlamaCppsVectors) { expect_vectors("gpt-2", "gpt2.tokenizer.json"); }

TEST(ReferenceTokenizer, Stories260KEncodesThePromptOfItsExpectedResults) {
    const fs::path folder = data_folder() / "stories260K";
    SKIP_WITHOUT(folder / "expected.json");
    const auto expected = nlohmann::json::parse(read_text_file(folder / "expected.json"));
    const Tokenizer tokenizer = load_tokenizer(folder);  // the only *.model of the folder
    EXPECT_EQ(tokenizer.vocab_size(), 512u);
    EXPECT_EQ(tokenizer.encode(expected["prompt"].get<std::string>()), expected["prompt_ids"].get<std::vector<TokenId>>());
    EXPECT_EQ(tokenizer.decode(tokenizer.encode("Lily's \xF0\x9F\xA6\x99 \xC3\xA4")), "Lily's \xF0\x9F\xA6\x99 \xC3\xA4");
}

TEST(ReferenceTokenizer, StartTokensAndSpecialTokensAreThoseOfTheModels) {
    const fs::path folder = data_folder() / "tokenizers";
    SKIP_WITHOUT(folder / "llama3.tokenizer.json");
    const Tokenizer llama3 = load_tokenizer(folder / "llama3.tokenizer.json");
    EXPECT_EQ(llama3.vocab_size(), 128256u);
    EXPECT_EQ(llama3.bos(), 128000);
    EXPECT_EQ(llama3.eos(), 128001);
    EXPECT_EQ(llama3.encode("Hello"), (std::vector<TokenId>{128000, 9906}));
    const std::vector<TokenId> turn = {9906, 128009};
    EXPECT_EQ(llama3.encode("Hello<|eot_id|>", {.add_bos = false, .parse_special = true}), turn);
    EXPECT_EQ(llama3.decode(turn), "Hello");
    EXPECT_EQ(llama3.decode(turn, true), "Hello<|eot_id|>");
    EXPECT_GT(llama3.encode("Hello<|eot_id|>", {.add_bos = false}).size(), 4u);  // plain text
    const Tokenizer tiktoken = load_tokenizer(folder / "llama3.tokenizer.model");
    EXPECT_EQ(tiktoken.encode("Hello<|eot_id|>", {.parse_special = true}), (std::vector<TokenId>{128000, 9906, 128009}));
    const Tokenizer llama2 = load_tokenizer(folder / "llama2.tokenizer.model");
    EXPECT_EQ(llama2.bos(), 1);
    EXPECT_EQ(llama2.eos(), 2);
    EXPECT_EQ(llama2.encode("Hello</s>", {.add_eos = true, .parse_special = true}), (std::vector<TokenId>{1, 15043, 2, 2}));
    EXPECT_EQ(llama2.decode_piece(15043), " Hello");
    const Tokenizer gpt2 = load_tokenizer(folder / "gpt2.tokenizer.json");
    EXPECT_EQ(gpt2.encode("Hello"), (std::vector<TokenId>{15496}));  // no start token by default
    EXPECT_EQ(gpt2.bos(), 50256);
}

TEST(ReferenceTokenizer, SpecialTokensOfTheConfigurationAreKnown) {
    const fs::path file = data_folder() / "tokenizers/torchtitan_test.tokenizer.json";
    SKIP_WITHOUT(file);
    const Tokenizer tokenizer = load_tokenizer(file);
    EXPECT_EQ(tokenizer.vocab_size(), 2020u);
    EXPECT_EQ(tokenizer.bos(), 2002);
    EXPECT_EQ(tokenizer.eos(), 2003);
    EXPECT_EQ(tokenizer.pad(), 2001);
    EXPECT_EQ(tokenizer.encode("cat<|end_of_text|>", {.parse_special = true}), (std::vector<TokenId>{99, 97, 116, 2003}));
}

TEST(ReferenceTokenizer, HostileTextsTakeNoMinutes) {
    const fs::path folder = data_folder() / "tokenizers";
    SKIP_WITHOUT(folder / "llama3.tokenizer.json");
    const size_t n = 1 << 18;  // where it is quadratic this takes minutes
    std::string words, brackets, mixed;
    for (size_t i = 0; i < n; ++i) {
        words += char('a' + (i * i / 7 + i) % 26);
        brackets += i % 2 ? '<' : '|';
        mixed += i % 2 ? ' ' : '\n';
    }
    for (const char* file : {"llama3.tokenizer.json", "llama3.tokenizer.model", "gpt2.tokenizer.json", "llama2.tokenizer.json",
                             "llama2.tokenizer.model"}) {
        const Tokenizer tokenizer = load_tokenizer(folder / file);
        for (const std::string& text : {std::string(n, 'a'), std::string(n, ' '), std::string(n, '\n'), std::string(n, '\xFF'),
                                        words, brackets, mixed, std::string(n, ' ') + "x"}) {
            const auto ids = tokenizer.encode(text, {.add_bos = false, .parse_special = true});
            EXPECT_TRUE(text[0] == char(0xFF) || tokenizer.decode(ids) == text) << file << ": " << text.substr(0, 20);
        }
    }
}

}  // namespace
}  // namespace vkqat
