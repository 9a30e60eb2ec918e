// Files from outside that are wrong: each gives an Error that says what and where.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "runtime/support/error.h"
#include "runtime/text/byte_level.h"
#include "tests/text/small_tokenizer.h"

namespace vkqat {
namespace {

using nlohmann::json;
using test::error_of;
using test::ScratchFolder;
using test::small_tokenizer;

TEST(MalformedTokenizerJson, GivesAnErrorThatNamesThePlace) {
    struct Case {
        const char* expected;
        std::function<void(json&)> change;
    };
    const std::string deep_pattern = std::string(5000, '(') + "a" + std::string(5000, ')');
    auto split = [](const std::string& regex) {
        return json{{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
    };
    const Case cases[] = {
        {"expected an object", [](json& j) { j = json::array(); }},
        {"model: expected an object", [](json& j) { j.erase("model"); }},
        {"WordPiece is not supported", [](json& j) { j["model"]["type"] = "WordPiece"; }},
        {"\"vocab\"", [](json& j) { j["model"].erase("vocab"); }},
        {"\"vocab\"", [](json& j) { j["model"]["vocab"] = json::object(); }},
        {"\"vocab\"",
         [](json& j) {
             j["model"]["vocab"] = {"a", "b"};
         }},
        {"expected 0 to", [](json& j) { j["model"]["vocab"]["a"] = -1; }},
        {"expected 0 to", [](json& j) { j["model"]["vocab"]["a"] = 2000000000; }},
        {"expected 0 to", [](json& j) { j["model"]["vocab"]["a"] = 18446744073709551615ull; }},
        {"expected an integer", [](json& j) { j["model"]["vocab"]["a"] = 1.5; }},
        {"id 1 of b is already that of a", [](json& j) { j["model"]["vocab"]["a"] = 1; }},
        {"empty token", [](json& j) { j["model"]["vocab"][""] = 9; }},
        {"\"merges\"", [](json& j) { j["model"].erase("merges"); }},
        {"merge 0", [](json& j) { j["model"]["merges"] = {"ab"}; }},
        {"merge 0", [](json& j) { j["model"]["merges"] = {"a b c"}; }},
        {"merge 1", [](json& j) { j["model"]["merges"] = json::parse(R"([["a", "b"], ["a", "b", "c"]])"); }},
        {"x is not in the vocabulary", [](json& j) { j["model"]["merges"] = {"a x"}; }},
        {"cb is not in the vocabulary", [](json& j) { j["model"]["merges"] = {"c b"}; }},
        {"unk_token", [](json& j) { j["model"]["unk_token"] = "nothing"; }},
        {"dropout", [](json& j) { j["model"]["dropout"] = 0.1; }},
        {"end_of_word_suffix", [](json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }},
        {"id 0 of x is already that of a",
         [](json& j) {
             j["added_tokens"] = {{{"id", 0}, {"content", "x"}}};
         }},
        {"a has the ids 0 and 9",
         [](json& j) {
             j["added_tokens"] = {{{"id", 9}, {"content", "a"}}};
         }},
        {"expected 0 to",
         [](json& j) {
             j["added_tokens"] = {{{"id", 1000000}, {"content", "x"}}};
         }},
        {"\"content\"",
         [](json& j) {
             j["added_tokens"] = {{{"id", 9}}};
         }},
        {"is empty",
         [](json& j) {
             j["added_tokens"] = {{{"id", 9}, {"content", ""}}};
         }},
        {"has 600 bytes",
         [](json& j) {
             j["added_tokens"] = {{{"id", 9}, {"content", std::string(600, 'x')}}};
         }},
        {"normalizer: normalizer NFC",
         [](json& j) {
             j["normalizer"] = {{"type", "NFC"}};
         }},
        {"normalizer: \"type\"", [](json& j) { j["normalizer"] = json::object(); }},
        {"pre_tokenizer: pre-tokenizer Bert",
         [](json& j) {
             j["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
         }},
        {"\"pretokenizers\"",
         [](json& j) {
             j["pre_tokenizer"] = {{"type", "Sequence"}};
         }},
        {"regular expression (a", [&](json& j) { j["pre_tokenizer"] = split("(a"); }},
        {"regular expression \\p{Nonsense}", [&](json& j) { j["pre_tokenizer"] = split("\\p{Nonsense}"); }},
        {"regular expression", [&](json& j) { j["pre_tokenizer"] = split(deep_pattern); }},
        {"too long", [&](json& j) { j["pre_tokenizer"] = split(std::string(20000, 'a')); }},
        {"\\h means something else", [&](json& j) { j["pre_tokenizer"] = split("\\h+"); }},
        {"a class inside a class", [&](json& j) { j["pre_tokenizer"] = split("[a[b]]"); }},
        {"&& inside a class", [&](json& j) { j["pre_tokenizer"] = split("[a-z&&b]"); }},
        {"MergedWithNext is not supported",
         [&](json& j) {
             j["pre_tokenizer"] = split("a");
             j["pre_tokenizer"]["behavior"] = "MergedWithNext";
         }},
        {"decoder WordPiece",
         [](json& j) {
             j["decoder"] = {{"type", "WordPiece"}};
         }},
        {"post-processor RobertaProcessing",
         [](json& j) {
             j["post_processor"] = {{"type", "RobertaProcessing"}};
         }},
        {"TemplateProcessing",
         [](json& j) {
             j["post_processor"] = {{"type", "TemplateProcessing"},
                                    {"single", {{{"SpecialToken", {{"id", "<s>"}}}}}},
                                    {"special_tokens", {{"<s>", {{"ids", {77}}}}}}};
         }},
    };
    ScratchFolder folder;
    for (const Case& c : cases) {
        json changed = small_tokenizer();
        c.change(changed);
        const std::string error = error_of([&] { test::load_json(folder, changed); });
        EXPECT_CONTAINS(error, c.expected);
        EXPECT_CONTAINS(error, "tokenizer.json");
    }
}

TEST(MalformedTokenizerJson, IsNoValidJson) {
    ScratchFolder folder;
    const std::string good = small_tokenizer().dump();
    auto error = [&](const std::string& text) { return error_of([&] { load_tokenizer(folder.write("tokenizer.json", text)); }); };
    EXPECT_CONTAINS(error(""), "malformed JSON");
    EXPECT_CONTAINS(error(std::string(2'000'000, '[')), "deeper than 64");
    EXPECT_CONTAINS(error("{\"a\":" + std::string(100, '[') + std::string(100, ']') + "}"), "deeper than 64");
    EXPECT_CONTAINS(error("{\"a\":\"\xFF\"}"), "malformed JSON");
    for (size_t n = 0; n < good.size(); n += 7) error(good.substr(0, n));  // error_of fails the test where none is thrown
}

TEST(MalformedTokenizerJson, NoDamagedByteCrashes) {
    ScratchFolder folder;
    const std::string good = small_tokenizer().dump();
    std::mt19937 random(1);
    int loaded = 0;
    for (int i = 0; i < 400; ++i) {
        std::string text = good;
        for (int k = 0; k < 2; ++k) text[random() % text.size()] = char(random());
        try {
            load_tokenizer(folder.write("tokenizer.json", text)).encode("abcab");
            ++loaded;
        } catch (const Error&) {
        }
    }
    EXPECT_LT(loaded, 200);
}

TEST(MalformedTokenizerJson, PatternsThatBacktrackWithoutEndAreStopped) {
    ScratchFolder folder;
    for (const char* pattern : {"(a+)+!", "(?:a|a|aa)+!", "a*a*a*a*a*a*!"}) {
        auto j = small_tokenizer();
        j["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
        const Tokenizer t = test::load_json(folder, j);
        EXPECT_EQ(t.encode("aa"), (std::vector<TokenId>{0, 0}));
        EXPECT_CONTAINS(error_of([&] { t.encode(std::string(20000, 'a') + "?!"); }), "limit");
    }
}

TEST(MalformedTokenizerConfig, GivesAnErrorThatNamesThePlace) {
    ScratchFolder folder;
    folder.write("tokenizer.json", small_tokenizer().dump());
    auto error = [&](const std::string& text) {
        folder.write("tokenizer_config.json", text);
        return error_of([&] { load_tokenizer(folder.path()); });
    };
    EXPECT_CONTAINS(error("{"), "tokenizer_config.json");
    EXPECT_CONTAINS(error(R"({"bos_token": "<s>"})"), "bos_token <s> is not in the vocabulary");
    EXPECT_CONTAINS(error(R"({"bos_token": 1})"), "expected a string");
    EXPECT_CONTAINS(error(R"({"add_bos_token": true})"), "there is no bos_token");
    EXPECT_CONTAINS(error(R"({"added_tokens_decoder": {"x": {"content": "y"}}})"), "expected ids as keys");
    EXPECT_CONTAINS(error(R"({"added_tokens_decoder": {"99999999": {"content": "y"}}})"), "out of range");
    EXPECT_CONTAINS(error(R"({"added_tokens_decoder": {"0": {"content": "y"}}})"), "already that of a");
}

std::string base64_of_byte(unsigned b) {
    const char* alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    return {alphabet[b >> 2], alphabet[(b & 3) << 4], '=', '='};
}

TEST(MalformedTiktoken, GivesAnErrorThatNamesTheLine) {
    ScratchFolder folder;
    std::string bytes;
    for (unsigned b = 0; b < 256; ++b) bytes += base64_of_byte(b) + " " + std::to_string(b) + "\n";
    auto load = [&](const std::string& text) { return load_tokenizer(folder.write("tokenizer.model", text)); };
    const Tokenizer good = load(bytes + "YWI= 256\n");
    EXPECT_EQ(good.encode("abc", {.add_bos = false}), (std::vector<TokenId>{256, 'c'}));
    EXPECT_EQ(good.vocab_size(), 257u + 256u);
    EXPECT_CONTAINS(error_of([&] { load(bytes + "YW*= 256\n"); }), "line 257: expected base64");
    EXPECT_CONTAINS(error_of([&] { load(bytes + "YWI 256\n"); }), "line 257: expected base64");
    EXPECT_CONTAINS(error_of([&] { load(bytes + "YWI= 300\n"); }), "line 257: expected the rank 256");
    EXPECT_CONTAINS(error_of([&] { load(bytes + "YWI=\n"); }), "line 257: expected the rank 256");
    EXPECT_CONTAINS(error_of([&] { load(bytes + "YWI= -1\n"); }), "line 257: expected the rank 256");
    EXPECT_CONTAINS(error_of([&] { load(bytes + "YQ== 256\n"); }), "line 257: the token stands there twice");
    EXPECT_CONTAINS(error_of([&] { load(bytes + std::string(4000, 'A') + " 256\n"); }), "too long");
    EXPECT_CONTAINS(error_of([&] { load("YWI= 0\n"); }), "lacks the byte");
}

// A SentencePiece model by hand, in protocol-buffer wire format.
std::string field(unsigned number, const std::string& bytes) {
    std::string out;
    for (unsigned long value : {static_cast<unsigned long>(number << 3 | 2), bytes.size()}) {
        for (; value >= 128; value >>= 7) out += char(value | 128);
        out += char(value);
    }
    return out + bytes;
}
std::string number(unsigned field_number, unsigned value) { return {char(field_number << 3), char(value)}; }
std::string score(float value) {
    char bytes[4];
    std::memcpy(bytes, &value, 4);
    return char(2 << 3 | 5) + std::string(bytes, 4);
}
std::string piece(const std::string& text, float value, unsigned type = 1) {
    return field(1, field(1, text) + score(value) + number(3, type));
}
std::string small_pieces() {
    return piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("\xE2\x96\x81", -3) + piece("a", -4) +
           piece("b", -5) +
           piece(
               "\xE2\x96\x81"
               "a",
               -1) +
           piece(
               "\xE2\x96\x81"
               "ab",
               -2);
}
const std::string bpe = field(2, number(3, 2));
const std::string identity = field(3, number(3, 1) + number(4, 0));

TEST(SentencePiece, ReadsAModelMadeByHand) {
    ScratchFolder folder;
    auto load = [&](const std::string& text) { return load_tokenizer(folder.write("tokenizer.model", text)); };
    const Tokenizer t = load(small_pieces() + bpe + identity);
    EXPECT_EQ(t.kind(), "SentencePiece BPE");
    EXPECT_EQ(t.encode("ab a"), (std::vector<TokenId>{1, 7, 6}));
    EXPECT_EQ(t.decode(t.encode("ab a")), "ab a");
    EXPECT_EQ(t.decode(t.encode(" ab  a ")), " ab  a ");
    EXPECT_EQ(t.encode("a</s>b", {.add_bos = false, .parse_special = true}), (std::vector<TokenId>{6, 2, 3, 5}));
    EXPECT_EQ(t.decode_piece(6), " a");
    EXPECT_EQ(t.decode(std::vector<TokenId>{6, 0, 2}), "a \xE2\x81\x87 ");
    folder.write("tokenizer_config.json", R"({"add_bos_token": false, "pad_token": "<pad>",
        "added_tokens_decoder": {"2": {"content": "</s>", "special": true}, "9": {"content": "<pad>", "special": true}}})");
    const Tokenizer more = load(small_pieces() + bpe + identity);
    EXPECT_EQ(more.vocab_size(), 10u);
    EXPECT_EQ(more.pad(), 9);
    EXPECT_EQ(more.encode("a<pad>", {.parse_special = true}), (std::vector<TokenId>{6, 9}));
    EXPECT_EQ(more.decode(std::vector<TokenId>{6, 9}, true), "a<pad>");
}

TEST(MalformedSentencePiece, GivesAnError) {
    ScratchFolder folder;
    auto error = [&](const std::string& text) {
        return error_of([&] { load_tokenizer(folder.write("tokenizer.model", text)); });
    };
    const std::string good = small_pieces() + bpe + identity;
    EXPECT_CONTAINS(error(""), "no pieces");
    EXPECT_CONTAINS(error("This is some text and no model."), "tokenizer.model");
    EXPECT_CONTAINS(error(good.substr(0, 40)), "truncated");
    EXPECT_CONTAINS(error(small_pieces() + piece("x", std::numeric_limits<float>::quiet_NaN())), "not finite");
    EXPECT_CONTAINS(error(small_pieces() + piece("a", -9) + bpe + identity), "not a usable SentencePiece model");
    EXPECT_CONTAINS(error(small_pieces() + piece("", -9) + bpe + identity), "0 bytes");
    EXPECT_CONTAINS(error(small_pieces() + field(2, number(3, 9)) + identity), "unknown kind");
    // A trie of 256 units whose first leads far outside; one that stays inside but names a replacement that is not there.
    auto with_map = [&](uint32_t root, uint32_t value) {
        std::string units(1024, '\0');
        std::memcpy(units.data(), &root, 4);
        std::memcpy(units.data() + 4, &value, 4);
        const uint32_t size = 1024;
        std::string map(reinterpret_cast<const char*>(&size), 4);
        return small_pieces() + bpe + field(3, field(2, map + units + std::string("x\0", 2)) + number(3, 1));
    };
    EXPECT_CONTAINS(error(with_map(0x7FFFFC00u, 0)), "leads to");
    EXPECT_CONTAINS(error(with_map((1u << 10) | (1u << 8), 0x80000100u)), "outside the map");
    EXPECT_CONTAINS(error(small_pieces() + bpe + field(3, field(2, "abc"))), "too short");
}

TEST(MalformedSentencePiece, NoDamagedByteCrashes) {
    ScratchFolder folder;
    const std::string good = small_pieces() + bpe + identity;
    std::mt19937 random(2);
    for (int i = 0; i < 400; ++i) {
        std::string text = good;
        text[random() % text.size()] = char(random());
        if (i % 3 == 0) text.resize(random() % text.size());
        try {
            const Tokenizer t = load_tokenizer(folder.write("tokenizer.model", text));
            t.decode(t.encode("ab a\xFF c"));
        } catch (const Error&) {
        }
    }
}

}  // namespace
}  // namespace vkqat
