#include "runtime/text/bpe_trainer.h"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <nlohmann/json.hpp>
#include <queue>
#include <set>
#include <unordered_map>

#include "runtime/support/error.h"
#include "runtime/support/files.h"
#include "runtime/text/byte_level.h"
#include "runtime/text/pretokenizer.h"
#include "runtime/text/utf8.h"

namespace vkqat {
namespace {

constexpr size_t max_word_bytes = 256;  // longer ones are cut: merging costs a pass over each word that holds the pair

struct Word {
    std::vector<int32_t> ids;
    int64_t count;
};

uint64_t pair_key(int32_t left, int32_t right) { return uint64_t(uint32_t(left)) << 32 | uint32_t(right); }

// Different words with their numbers, sorted by text so that nothing depends on a hash table's order.
std::vector<Word> count_words(std::span<const std::string> texts, int32_t first_byte_id) {
    std::vector<PretokenizeStep> steps;
    steps.push_back(SplitStep{Regex(llama3_pattern)});
    std::unordered_map<std::string, int64_t> counts;
    for (const std::string& text : texts) {
        const std::string valid = utf8_valid(text) ? text : utf8_lossy(text);
        std::deque<std::string> storage;
        for (std::string_view word : pretokenize(steps, valid, false, storage))
            for (size_t i = 0; i < word.size(); i += max_word_bytes) ++counts[std::string(word.substr(i, max_word_bytes))];
    }
    std::vector<std::pair<std::string, int64_t>> sorted(counts.begin(), counts.end());
    std::sort(sorted.begin(), sorted.end());
    std::vector<Word> words;
    for (const auto& [text, count] : sorted) {
        Word& word = words.emplace_back(Word{{}, count});
        for (char b : text) word.ids.push_back(first_byte_id + static_cast<unsigned char>(b));
    }
    return words;
}

struct PairState {
    int64_t count = 0;
    std::vector<uint32_t> words;  // where it occurs or occurred; may hold a word twice
};

struct Candidate {
    int64_t count;
    uint64_t pair;
    bool operator<(const Candidate& other) const { return count != other.count ? count < other.count : pair > other.pair; }
};

void check(const BpeTrainingOptions& options) {
    std::set<std::string> seen;
    for (const std::string& token : options.special_tokens)
        if (token.empty() || !utf8_valid(token) || !seen.insert(token).second)
            fail("training a tokenizer: the special token \"{}\" is empty, doubled or no UTF-8", token);
    for (const std::string& token : byte_level_alphabet())
        if (seen.contains(token)) fail("training a tokenizer: the special token \"{}\" is that of a byte", token);
    for (const std::string* token : {&options.bos_token, &options.eos_token, &options.pad_token})
        if (!token->empty() && !seen.contains(*token)) fail("training a tokenizer: {} is not among the special tokens", *token);
    const size_t least = options.special_tokens.size() + 256;
    if (options.vocab_size < least || options.vocab_size > 1'000'000)
        fail("training a tokenizer: expected a vocabulary of {} (bytes and special tokens) to 1000000, found {}", least,
             options.vocab_size);
}

}  // namespace

BpeTraining train_bpe(std::span<const std::string> texts, const BpeTrainingOptions& options) {
    check(options);
    BpeTraining training;
    training.tokens = options.special_tokens;
    const auto first_byte_id = int32_t(training.tokens.size());
    const auto& alphabet = byte_level_alphabet();
    training.tokens.insert(training.tokens.end(), alphabet.begin(), alphabet.end());

    std::vector<Word> words = count_words(texts, first_byte_id);
    std::unordered_map<uint64_t, PairState> pairs;
    for (size_t w = 0; w < words.size(); ++w) {
        for (size_t i = 0; i + 1 < words[w].ids.size(); ++i) {
            PairState& pair = pairs[pair_key(words[w].ids[i], words[w].ids[i + 1])];
            pair.count += words[w].count;
            if (pair.words.empty() || pair.words.back() != w) pair.words.push_back(uint32_t(w));
        }
    }
    std::priority_queue<Candidate> queue;
    for (const auto& [pair, state] : pairs) queue.push({state.count, pair});

    // The same text can come out of different pairs; a merge that made a token a second time would give it two ids.
    std::unordered_map<std::string, int32_t> known;
    for (size_t i = 0; i < training.tokens.size(); ++i) known.emplace(training.tokens[i], int32_t(i));

    while (training.tokens.size() < options.vocab_size && !queue.empty()) {
        const Candidate top = queue.top();
        queue.pop();
        PairState& state = pairs[top.pair];
        if (state.count != top.count) {  // outdated: comes again with its present count
            if (state.count > 1) queue.push({state.count, top.pair});
            continue;
        }
        if (top.count < 2) break;
        const auto left = int32_t(top.pair >> 32), right = int32_t(uint32_t(top.pair));
        std::string text = training.tokens[size_t(left)] + training.tokens[size_t(right)];
        auto [entry, is_new] = known.emplace(text, int32_t(training.tokens.size()));
        if (entry->second < first_byte_id) continue;  // spells a special token
        training.merges.emplace_back(training.tokens[size_t(left)], training.tokens[size_t(right)]);
        if (is_new) training.tokens.push_back(text);
        const int32_t merged = entry->second;

        std::vector<uint32_t> touched = std::move(state.words);
        state = {};
        std::sort(touched.begin(), touched.end());
        touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
        std::set<uint64_t> changed;
        for (uint32_t w : touched) {
            Word& word = words[w];
            for (size_t i = 0; i + 1 < word.ids.size(); ++i) pairs[pair_key(word.ids[i], word.ids[i + 1])].count -= word.count;
            std::vector<int32_t> ids;
            for (size_t i = 0; i < word.ids.size(); ++i) {
                const bool here = i + 1 < word.ids.size() && word.ids[i] == left && word.ids[i + 1] == right;
                ids.push_back(here ? merged : word.ids[i]);
                i += here;
            }
            word.ids = std::move(ids);
            for (size_t i = 0; i + 1 < word.ids.size(); ++i) {
                const uint64_t key = pair_key(word.ids[i], word.ids[i + 1]);
                PairState& pair = pairs[key];
                pair.count += word.count;
                if (word.ids[i] != merged && word.ids[i + 1] != merged) continue;
                if (pair.words.empty() || pair.words.back() != w) pair.words.push_back(w);
                changed.insert(key);
            }
        }
        pairs[top.pair].count = 0;
        for (uint64_t key : changed) queue.push({pairs[key].count, key});
    }
    return training;
}

void write_tokenizer(const std::filesystem::path& directory, const BpeTraining& training, const BpeTrainingOptions& options) {
    using Json = nlohmann::ordered_json;
    const size_t special = options.special_tokens.size();
    // The vocabulary is written in the order of ids; a std::map would cost that order, an ordered_json a search per token.
    std::vector<std::pair<std::string, Json>> vocabulary;
    for (size_t i = 0; i < training.tokens.size(); ++i) vocabulary.emplace_back(training.tokens[i], Json(i));
    Json added = Json::array();
    for (size_t i = 0; i < special; ++i)
        added.push_back({{"id", i},
                         {"content", training.tokens[i]},
                         {"single_word", false},
                         {"lstrip", false},
                         {"rstrip", false},
                         {"normalized", false},
                         {"special", true}});
    Json merges = Json::array();
    for (const auto& [left, right] : training.merges) merges.push_back(left + " " + right);
    const Json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};

    Json json;
    json["version"] = "1.0";
    json["truncation"] = nullptr;
    json["padding"] = nullptr;
    json["added_tokens"] = added;
    json["normalizer"] = nullptr;
    json["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"Regex", llama3_pattern}}}, {"behavior", "Isolated"}, {"invert", false}},
          byte_level}}};
    json["post_processor"] = byte_level;
    if (!options.bos_token.empty()) {
        const auto id = std::find(training.tokens.begin(), training.tokens.end(), options.bos_token) - training.tokens.begin();
        const Json bos = {{"SpecialToken", {{"id", options.bos_token}, {"type_id", 0}}}};
        auto sequence = [](const char* name, int type) { return Json{{"Sequence", {{"id", name}, {"type_id", type}}}}; };
        json["post_processor"] = {
            {"type", "TemplateProcessing"},
            {"single", Json::array({bos, sequence("A", 0)})},
            {"pair", Json::array({bos, sequence("A", 0), sequence("B", 1)})},
            {"special_tokens",
             {{options.bos_token,
               {{"id", options.bos_token}, {"ids", Json::array({id})}, {"tokens", Json::array({options.bos_token})}}}}}};
    }
    json["decoder"] = byte_level;
    json["model"] = {{"type", "BPE"},
                     {"dropout", nullptr},
                     {"unk_token", nullptr},
                     {"continuing_subword_prefix", nullptr},
                     {"end_of_word_suffix", nullptr},
                     {"fuse_unk", false},
                     {"byte_fallback", false},
                     {"ignore_merges", false}};
    json["model"]["vocab"] = Json(Json::object_t(vocabulary.begin(), vocabulary.end()));
    json["model"]["merges"] = std::move(merges);

    Json config;
    Json decoder = Json::object();
    for (size_t i = 0; i < special; ++i) {
        Json token = added[i];
        token.erase("id");
        decoder[std::to_string(i)] = token;
    }
    config["added_tokens_decoder"] = decoder;
    if (!options.bos_token.empty()) config["bos_token"] = options.bos_token;
    if (!options.eos_token.empty()) config["eos_token"] = options.eos_token;
    if (!options.pad_token.empty()) config["pad_token"] = options.pad_token;
    if (options.chat_template) config["chat_template"] = *options.chat_template;
    config["clean_up_tokenization_spaces"] = false;
    config["tokenizer_class"] = "PreTrainedTokenizerFast";

    std::error_code error;
    std::filesystem::create_directories(directory, error);
    if (error) fail("{}: cannot make the folder: {}", directory.string(), error.message());
    write_text_file(directory / "tokenizer.json", json.dump(1) + "\n");
    write_text_file(directory / "tokenizer_config.json", config.dump(2) + "\n");
}

}  // namespace vkqat
