// Tokenizers inside GGUF files: those of the published models give the ids that they give from their own formats.
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "runtime/support/files.h"
#include "runtime/text/byte_level.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/tokenizer.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/reference.h"
#include "tests/text/small_tokenizer.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;
using test::data_folder;
using test::error_of;
using test::GgufBuilder;
using test::ScratchFolder;
using Ids = std::vector<TokenId>;

#define SKIP_WITHOUT(path) \
    if (!fs::exists(path)) GTEST_SKIP() << (path) << " is not there: set VKQAT_DATA to the folder of test data"

struct Vocabulary {
    std::vector<std::string> tokens;
    std::vector<int32_t> kinds;
    std::vector<float> scores;
    std::vector<std::string> merges;
};

GgufBuilder tokenizer_file(const Vocabulary& v, const char* model, const char* pre) {
    GgufBuilder b;
    b.key("tokenizer.ggml.model", model);
    if (*pre) b.key("tokenizer.ggml.pre", pre);
    b.array("tokenizer.ggml.tokens", v.tokens);
    if (!v.kinds.empty()) b.array("tokenizer.ggml.token_type", v.kinds);
    if (!v.scores.empty()) b.array("tokenizer.ggml.scores", v.scores);
    if (!v.merges.empty()) b.array("tokenizer.ggml.merges", v.merges);
    return b;
}

Vocabulary sentencepiece_vocabulary(const fs::path& model) {
    sentencepiece::SentencePieceProcessor processor;
    EXPECT_TRUE(processor.Load(model.string()).ok());
    Vocabulary v;
    for (int i = 0; i < processor.GetPieceSize(); ++i) {
        v.tokens.push_back(processor.IdToPiece(i));
        v.scores.push_back(processor.GetScore(i));
        v.kinds.push_back(processor.IsUnknown(i)   ? 2
                          : processor.IsControl(i) ? 3
                          : processor.IsUnused(i)  ? 5
                          : processor.IsByte(i)    ? 6
                                                   : 1);
    }
    return v;
}

// As llama.cpp's converter writes a tokenizer.json.
Vocabulary json_vocabulary(const fs::path& file) {
    nlohmann::json json;
    std::ifstream(file) >> json;
    Vocabulary v;
    auto put = [&](size_t id, const std::string& token, int kind) {
        if (v.tokens.size() <= id) v.tokens.resize(id + 1), v.kinds.resize(id + 1, 5);
        v.tokens[id] = token;
        v.kinds[id] = kind;
    };
    for (auto& [token, id] : json["model"]["vocab"].items()) put(id, token, 1);
    for (auto& added : json["added_tokens"]) put(added["id"], added["content"], added["special"] ? 3 : 4);
    for (auto& merge : json["model"]["merges"])
        v.merges.push_back(merge.is_string() ? merge.get<std::string>()
                                             : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
    return v;
}

std::vector<std::string> lines_of_text() {
    std::vector<std::string> lines;
    std::ifstream text(data_folder() / "text/wikitext2.wiki.test.raw");
    for (std::string line; lines.size() < 400 && std::getline(text, line);)
        if (!line.empty()) lines.push_back(line);
    for (const char* line :
         {"", " ", "  two  spaces ", "\xC3\xA4\xF0\x9F\xA6\x99 \xE4\xBD\xA0\xE5\xA5\xBD", "a\n\n b\r\n\tc", "1234567 \xFF\x80 x"})
        lines.push_back(line);
    return lines;
}

// One space wherever there are several, none at the ends.
std::string without_extra_spaces(const std::string& text) {
    std::istringstream words(text);
    std::string result;
    for (std::string word; words >> word;) result += (result.empty() ? "" : " ") + word;
    return result;
}

void expect_same(const Tokenizer& found, const Tokenizer& expected, bool extra_spaces = true) {
    EXPECT_EQ(found.vocab_size(), expected.vocab_size());
    EXPECT_EQ(found.bos(), expected.bos());
    EXPECT_EQ(found.eos(), expected.eos());
    size_t ids = 0;
    for (std::string line : lines_of_text()) {
        if (!extra_spaces) line = without_extra_spaces(line);
        Ids a = found.encode(line), b = expected.encode(line);
        EXPECT_EQ(a, b) << line;
        EXPECT_EQ(found.decode(a), expected.decode(b)) << line;
        ids += b.size();
    }
    EXPECT_GT(ids, 10000u);
}

class ReferenceGgufTokenizer : public testing::Test {
protected:
    fs::path write(const GgufBuilder& b) {
        std::ofstream(folder_ / "a.gguf", std::ios::binary) << b.file();
        return folder_ / "a.gguf";
    }
    ScratchFolder folder_;
};

TEST_F(ReferenceGgufTokenizer, Stories260KEncodesAsItsSentencePieceModelDoes) {
    const fs::path folder = data_folder() / "stories260K";
    SKIP_WITHOUT(folder / "stories260K-f16.gguf");
    const Tokenizer expected = load_tokenizer(folder / "tok512.model");
    const auto known = nlohmann::json::parse(read_text_file(folder / "expected.json"));
    for (const char* name : {"stories260K-f16.gguf", "stories260K-q8_0.gguf"}) {
        const Tokenizer tokenizer = load_tokenizer(folder / name);
        EXPECT_EQ(tokenizer.encode(known["prompt"].get<std::string>()), known["prompt_ids"].get<Ids>());
        EXPECT_EQ(tokenizer.kind(), "SentencePiece BPE");
        EXPECT_TRUE(tokenizer.is_special(1));
        EXPECT_FALSE(tokenizer.is_special(3));
        // The model removes extra spaces, and the file does not say so.
        expect_same(tokenizer, expected, false);
    }
}

TEST_F(ReferenceGgufTokenizer, Llama2sVocabularyGivesTheIdsOfItsModel) {
    const fs::path model = data_folder() / "tokenizers/llama2.tokenizer.model";
    SKIP_WITHOUT(model);
    GgufBuilder b = tokenizer_file(sentencepiece_vocabulary(model), "llama", "");
    b.key("tokenizer.ggml.bos_token_id", uint32_t(1));
    b.key("tokenizer.ggml.eos_token_id", uint32_t(2));
    const Tokenizer tokenizer = load_tokenizer(write(b));
    expect_same(tokenizer, load_tokenizer(model));
    EXPECT_EQ(tokenizer.encode("Hello</s>", {.parse_special = true}), (Ids{1, 15043, 2}));
    EXPECT_GT(tokenizer.encode("Hello</s>").size(), 3u);
}

TEST_F(ReferenceGgufTokenizer, Llama3sVocabularyGivesTheIdsOfItsJson) {
    const fs::path json = data_folder() / "tokenizers/llama3.tokenizer.json";
    SKIP_WITHOUT(json);
    GgufBuilder b = tokenizer_file(json_vocabulary(json), "gpt2", "llama-bpe");
    b.key("tokenizer.ggml.bos_token_id", uint32_t(128000));
    b.key("tokenizer.ggml.eos_token_id", uint32_t(128001));
    const Tokenizer tokenizer = load_tokenizer(write(b));
    expect_same(tokenizer, load_tokenizer(json));
    EXPECT_EQ(tokenizer.encode("Hello<|eot_id|>", {.parse_special = true}), (Ids{128000, 9906, 128009}));
    EXPECT_GT(tokenizer.encode("Hello<|eot_id|>").size(), 4u);
}

TEST_F(ReferenceGgufTokenizer, Gpt2sVocabularyGivesTheIdsOfItsJson) {
    const fs::path json = data_folder() / "tokenizers/gpt2.tokenizer.json";
    SKIP_WITHOUT(json);
    GgufBuilder b = tokenizer_file(json_vocabulary(json), "gpt2", "gpt-2");
    b.key("tokenizer.ggml.bos_token_id", uint32_t(50256));
    b.key("tokenizer.ggml.eos_token_id", uint32_t(50256));
    expect_same(load_tokenizer(write(b)), load_tokenizer(json));  // no start token in front
}

// Bytes, and some digits.
Vocabulary small_vocabulary() {
    Vocabulary v;
    for (const std::string& byte : byte_level_alphabet()) v.tokens.push_back(byte);
    for (const char* token : {"12", "34", "123", "<end>", "more", ""}) v.tokens.push_back(token);
    v.kinds.assign(v.tokens.size(), 1);
    v.kinds[259] = 3;
    v.kinds[260] = 4;
    v.kinds[261] = 5;
    v.merges = {"1 2", "3 4", "12 3"};
    return v;
}

class GgufTokenizer : public ReferenceGgufTokenizer {
protected:
    std::string error(const GgufBuilder& b) {
        fs::path path = write(b);
        std::string message = error_of([&] { load_tokenizer(path).encode("12 a"); });
        EXPECT_CONTAINS(message, "a.gguf");
        return message;
    }
};

TEST_F(GgufTokenizer, PretokenizersCutNumbersAsTheyShould) {
    auto ids = [&](const char* pre, const char* text) {
        return load_tokenizer(write(tokenizer_file(small_vocabulary(), "gpt2", pre))).encode(text);
    };
    auto digit = [&](int n) { return TokenId('0' + n); };
    EXPECT_EQ(ids("gpt-2", "1234"), (Ids{256, 257}));                                 // one word: 12, then 34 before 123
    EXPECT_EQ(ids("default", "1234"), (Ids{258, digit(4)}));                          // 123|4
    EXPECT_EQ(ids("", "1234"), (Ids{258, digit(4)}));                                 // the same without a name
    EXPECT_EQ(ids("llama-bpe", "1234"), (Ids{258, digit(4)}));                        // 123|4
    EXPECT_EQ(ids("smollm", "1234"), (Ids{digit(1), digit(2), digit(3), digit(4)}));  // 1|2|3|4
    EXPECT_CONTAINS(error(tokenizer_file(small_vocabulary(), "gpt2", "qwen2")), "'qwen2' is not supported");
}

TEST_F(GgufTokenizer, KindsOfTokensDecideWhatTheyDo) {
    GgufBuilder b = tokenizer_file(small_vocabulary(), "gpt2", "gpt-2");
    b.key("tokenizer.ggml.eos_token_id", uint32_t(259));
    const Tokenizer t = load_tokenizer(write(b));
    EXPECT_EQ(t.vocab_size(), 262u);
    EXPECT_EQ(t.eos(), 259);
    EXPECT_EQ(t.encode("<end>", {.parse_special = true}), Ids{259});
    EXPECT_EQ(t.encode("<end>").size(), 5u);
    EXPECT_EQ(t.encode("more"), Ids{260});  // user-defined: always
    EXPECT_EQ(t.decode(Ids{256, 259, 260}), "12more");
    EXPECT_EQ(t.token(261), "[EMPTY_261]");
}

TEST_F(GgufTokenizer, StartTokensFollowTheFile) {
    auto ids = [&](auto&& change) {
        GgufBuilder b = tokenizer_file(small_vocabulary(), "gpt2", "llama-bpe");
        change(b);
        return load_tokenizer(write(b)).encode("12");
    };
    auto with_bos = [](GgufBuilder& b) { b.key("tokenizer.ggml.bos_token_id", uint32_t(259)); };
    EXPECT_EQ(ids(with_bos), (Ids{259, 256}));  // as Llama 3 does
    EXPECT_EQ(ids([](GgufBuilder&) {}), Ids{256});
    EXPECT_EQ(ids([&](GgufBuilder& b) {
                  with_bos(b);
                  b.key("tokenizer.ggml.add_bos_token", false);
              }),
              Ids{256});
}

TEST_F(GgufTokenizer, SpacePrefixFollowsTheFile) {
    Vocabulary v;
    v.tokens = {"<unk>",
                "<s>",
                "</s>",
                "\xE2\x96\x81",
                "a",
                "\xE2\x96\x81"
                "a"};
    v.scores = {0, 0, 0, -2, -3, -1};
    v.kinds = {2, 3, 3, 1, 1, 1};
    EXPECT_EQ(load_tokenizer(write(tokenizer_file(v, "llama", ""))).encode("a"), (Ids{1, 5}));
    GgufBuilder b = tokenizer_file(v, "llama", "");
    b.key("tokenizer.ggml.add_space_prefix", false);
    b.key("tokenizer.ggml.add_bos_token", false);
    const Tokenizer t = load_tokenizer(write(b));
    EXPECT_EQ(t.encode("a"), Ids{4});
    EXPECT_EQ(t.decode(t.encode(" a")), " a");
    v.kinds.clear();  // very old files: the kinds follow from ids and names
    GgufBuilder old = tokenizer_file(v, "llama", "");
    old.key("tokenizer.ggml.bos_token_id", uint32_t(1));
    EXPECT_EQ(load_tokenizer(write(old)).encode("a"), (Ids{1, 5}));
}

TEST_F(GgufTokenizer, ChatTemplateIsThatOfTheFile) {
    GgufBuilder b = tokenizer_file(small_vocabulary(), "gpt2", "gpt-2");
    const Tokenizer t = load_tokenizer(write(b));
    EXPECT_EQ(load_chat_template(write(b), t).source, "");
    b.key("tokenizer.chat_template", "{% for m in messages %}[{{ m.content }}]{% endfor %}");
    std::vector<ChatMessage> messages{{"user", "hi"}};
    EXPECT_EQ(render_chat(load_chat_template(write(b), t), messages, true), "[hi]");
    GgufBuilder bad = tokenizer_file(small_vocabulary(), "gpt2", "gpt-2");
    bad.key("tokenizer.chat_template", "{% for");
    fs::path path = write(bad);
    EXPECT_CONTAINS(error_of([&] { load_chat_template(path, t); }), "a.gguf");
}

TEST_F(GgufTokenizer, DamagedVocabulariesAreErrors) {
    EXPECT_CONTAINS(error(GgufBuilder()), "has no tokenizer");
    EXPECT_CONTAINS(error(tokenizer_file(small_vocabulary(), "bert", "")), "'bert' is not supported");
    Vocabulary v = small_vocabulary();
    v.tokens.clear();
    EXPECT_CONTAINS(error(tokenizer_file(v, "gpt2", "")), "missing or empty");
    v = small_vocabulary();
    v.kinds.pop_back();
    EXPECT_CONTAINS(error(tokenizer_file(v, "gpt2", "")), "expected one for each of 262 tokens, found 261");
    v = small_vocabulary();
    v.kinds[5] = 9;
    EXPECT_CONTAINS(error(tokenizer_file(v, "gpt2", "")), "token 5: expected 1 to 6, found 9");
    v = small_vocabulary();
    v.tokens[5] = "\xff\xfe";
    EXPECT_CONTAINS(error(tokenizer_file(v, "gpt2", "")), "token 5: expected up to 4096 bytes of UTF-8");
    v = small_vocabulary();
    v.tokens[5] = std::string(5000, 'x');
    EXPECT_CONTAINS(error(tokenizer_file(v, "gpt2", "")), "token 5");
    v = small_vocabulary();
    v.tokens[5] = v.tokens[6];
    EXPECT_CONTAINS(error(tokenizer_file(v, "gpt2", "")), "stands there twice");
    v = small_vocabulary();
    v.merges.clear();
    EXPECT_CONTAINS(error(tokenizer_file(v, "gpt2", "")), "tokenizer.ggml.merges");
    for (const char* merge : {"12", "1 2 3", "\xff 1", "1 9"}) {
        v = small_vocabulary();
        v.merges[1] = merge;
        EXPECT_CONTAINS(error(tokenizer_file(v, "gpt2", "")), "merge 1");
    }
    v = small_vocabulary();
    EXPECT_CONTAINS(error(tokenizer_file(v, "llama", "")), "tokenizer.ggml.scores");
    v.scores.assign(v.tokens.size(), 0.f);
    v.scores[3] = INFINITY;
    EXPECT_CONTAINS(error(tokenizer_file(v, "llama", "")), "score of piece 3 is not finite");
    for (const char* key : {"bos", "eos", "padding", "unknown"}) {
        v.scores[3] = 0;
        GgufBuilder b = tokenizer_file(v, "llama", "");
        b.key("tokenizer.ggml." + std::string(key) + "_token_id", uint32_t(262));
        EXPECT_CONTAINS(error(b), key);
    }
}

}  // namespace
}  // namespace vkqat
