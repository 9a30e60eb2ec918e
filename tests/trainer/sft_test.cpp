// Fine-tuning: what is learnt of each form of example, how examples are packed, and a training on them.
#include <gtest/gtest.h>

#include <numeric>

#include "runtime/text/bpe_trainer.h"
#include "tests/support/reference.h"
#include "tests/trainer/tiny_run.h"
#include "trainer/export.h"
#include "trainer/flavors.h"
#include "trainer/sft_examples.h"
#include "trainer/tokenizer_files.h"

namespace vkqat {
namespace {

using test::error_of;
using test::ScratchFolder;

Tokenizer write_chat_tokenizer(const std::filesystem::path& folder) {
    BpeTrainingOptions options{.vocab_size = 280};
    for (const char* token : {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}) options.special_tokens.push_back(token);
    options.chat_template = llama3_chat_template;
    const std::string text = "the answer is the question of the day, and the day is long";
    write_tokenizer(folder, train_bpe(std::span(&text, 1), options), options);
    return load_tokenizer(folder);
}

struct Fixture {
    ScratchFolder folder;
    Tokenizer tokenizer = write_chat_tokenizer(folder / "tokenizer");
    ChatEncoder chat{tokenizer, load_chat_template(folder / "tokenizer", tokenizer)};

    TextEncoder encoder(int64_t seq_len = 256, bool prompts = false) const {
        return sft_encoder(chat, folder / "tokenizer", {.seq_len = seq_len, .train_on_prompts = prompts});
    }
    std::shared_ptr<const TokenCache> cache(const std::filesystem::path& file, int64_t seq_len = 256) const {
        return std::make_shared<TokenCache>(
            tokenize_corpus({file}, {.kind = CorpusKind::examples}, encoder(seq_len), folder / "cache", 2));
    }
    // What is learnt in brackets.
    std::string shown(const std::vector<int32_t>& packed) const {
        std::string text;
        for (size_t i = 0; i < packed.size(); i++) {
            const auto [id, trained] = unpack_sft_token(packed[i]);
            if (trained && (i == 0 || !unpack_sft_token(packed[i - 1]).trained)) text += '{';
            text += tokenizer.decode_piece(id, true);
            if (trained && (i + 1 == packed.size() || !unpack_sft_token(packed[i + 1]).trained)) text += '}';
        }
        return text;
    }
    std::string shown(std::string_view example, bool prompts = false) const {
        const TextEncoder::Encoded encoded = encoder(256, prompts).encode_examples(std::span(&example, 1))[0];
        return encoded.problem.empty() ? shown(encoded.ids) : encoded.problem;
    }
};

std::string turn(const std::string& role, const std::string& content) {
    return "<|start_header_id|>" + role + "<|end_header_id|>\n\n" + content;
}
const std::string start = "<|begin_of_text|>", eot = "<|eot_id|>";

TEST(SftExamples, OfEachFormTheAnswersAreLearnt) {
    Fixture f;
    const std::string hi = start + turn("user", "hi" + eot) + turn("assistant", "{yes" + eot + "}");
    EXPECT_EQ(f.shown(R"({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]})"), hi);
    EXPECT_EQ(
        f.shown(R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "value": "i"}],
                          "loss_weight": 0.0}, {"role": "assistant", "content": "yes", "weight": 1}]})"),
        hi);
    EXPECT_EQ(f.shown(R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0},
                          {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})"),
              start + turn("user", "a" + eot) + turn("assistant", "b" + eot) + turn("user", "c" + eot) +
                  turn("assistant", "{d" + eot + "}"));
    EXPECT_EQ(f.shown(R"({"instruction": "hi", "input": "", "output": "yes"})"), hi);
    EXPECT_EQ(f.shown(R"({"instruction": "add", "input": "1 2", "output": "3", "system": "s", "history": [["q", "a"]]})"),
              start + turn("system", "s" + eot) + turn("user", "q" + eot) + turn("assistant", "{a" + eot + "}") +
                  turn("user", "add\n1 2" + eot) + turn("assistant", "{3" + eot + "}"));
    EXPECT_EQ(f.shown(R"([["the day ", "is long"]])"), start + "the day {is long<|end_of_text|>}");
    EXPECT_EQ(f.shown(R"(["the day ", "is long"])"), start + "the day {is long<|end_of_text|>}");
    EXPECT_EQ(f.shown(R"([["the day ", "is long"]])", true), "{" + start + "the day is long<|end_of_text|>}");
    // Whose text is a special token.
    EXPECT_EQ(f.shown(R"({"instruction": "<|eot_id|>", "output": "yes"})"),
              start + turn("user", eot + eot) + turn("assistant", "{yes" + eot + "}"));
}

TEST(SftExamples, SayWhatIsWrong) {
    Fixture f;
    const std::pair<const char*, const char*> bad[] = {
        {"{", "the example"},
        {"3", "found number"},
        {"{}", "found the keys (none)"},
        {R"({"text": "a"})", "expected \"messages\" or \"instruction\", found the keys \"text\""},
        {R"({"messages": {}})", "expected a list as \"messages\""},
        {R"({"messages": []})", "no message of the assistant"},
        {R"({"messages": [3]})", "message 1: expected an object"},
        {R"({"messages": [{"role": "user"}]})", "message 1: expected a string \"content\", found none"},
        {R"({"messages": [{"role": 3, "content": ""}]})", "expected a string \"role\", found number"},
        {R"({"messages": [{"role": "user", "content": [{"type": "image"}]}]})", "\"image\" cannot be learnt"},
        {R"({"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]})", "must be 0 or 1, found 0.5"},
        {R"({"messages": [{"role": "user", "content": "a", "weight": 1}]})", "only the assistant's can be learnt"},
        {R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]})",
         "no message of the assistant to learn"},
        {R"({"instruction": "a", "output": ""})", "the answer is empty"},
        {R"({"instruction": "a"})", "expected a string \"output\", found none"},
        {R"({"instruction": "a", "output": "b", "history": [["q"]]})", "lists of two strings"},
        {R"([["a", "b"], ["c", "d"]])", "[[prompt, continuation]]"},
        {R"([["a", ""]])", "the continuation is empty"},
    };
    for (const auto& [text, problem] : bad) EXPECT_CONTAINS(f.shown(text), problem);
    EXPECT_CONTAINS(f.shown(std::string(100, '[') + std::string(100, ']')), "deep");
}

TEST(SftExamples, FilesHoldLinesOrAnArray) {
    Fixture f;
    auto documents = [&](std::string_view name, std::string_view text) {
        DocumentReader reader({f.folder.write(name, text)}, {.kind = CorpusKind::examples});
        std::vector<std::string> all;
        for (Document d; reader.next(d);) all.push_back(reader.where(d).substr((f.folder / "").string().size()) + " " + d.text);
        return all;
    };
    using Texts = std::vector<std::string>;
    EXPECT_EQ(documents("a.jsonl", "{\"a\": 1}\n\n[[\"x\", \"y\"]]\n"),
              (Texts{"a.jsonl:1 {\"a\": 1}", "a.jsonl:3 [[\"x\", \"y\"]]"}));
    EXPECT_EQ(documents("a.json", "[\n {\"a\": \"],[\\\"\"} ,\n [[\"x\", \"y\"]]\n]\n"),
              (Texts{"a.json: element 1 {\"a\": \"],[\\\"\"}", "a.json: element 2 [[\"x\", \"y\"]]"}));
    EXPECT_EQ(documents("b.json", "[[\"x\", \"y\"]]\n[[\"z\", \"u\"]]\n"),
              (Texts{"b.json: line 1 [[\"x\", \"y\"]]", "b.json: line 2 [[\"z\", \"u\"]]"}));
    EXPECT_EQ(documents("c.json", "{\"a\": 1}\n{\"a\": 2}"), (Texts{"c.json: line 1 {\"a\": 1}", "c.json: line 2 {\"a\": 2}"}));
    EXPECT_EQ(documents("d.json", " [ ]"), Texts{});
    for (const auto& [text, problem] :
         {std::pair("[{\"a\": 1}", "element 1: the array is not closed"), std::pair("[{\"a\": \"", "not closed"),
          std::pair("[{},,{}]", "element 2: found no value"), std::pair("[{}, ]", "element 2: found no value"),
          std::pair("[{}] x", "behind the end of the array"), std::pair("[{}}", "'}' where")})
        EXPECT_CONTAINS(error_of([&] { documents("e.json", text); }), problem);
    EXPECT_CONTAINS(error_of([&] { documents("e.txt", "text"); }), "examples are expected in .json");
}

TEST(SftExamples, BadOnesStopOrAreLeftOutAndThoseWithoutRoomForAnAnswerAre) {
    Fixture f;
    const auto file = f.folder.write("a.jsonl", R"({"instruction": "hi", "output": "yes"}
{"instruction": "hi"}
[["the day", " is"]]
)");
    EXPECT_CONTAINS(error_of([&] { f.cache(file); }), "a.jsonl:2: expected a string \"output\", found none");
    std::vector<std::string> said;
    const TokenCache cache = tokenize_corpus({file}, {.skip_bad_lines = true, .kind = CorpusKind::examples}, f.encoder(256),
                                             f.folder / "cache", 1, [&](const std::string& line) { said.push_back(line); });
    EXPECT_EQ(cache.documents(), 2u);
    EXPECT_EQ(cache.skipped(), 1u);
    ASSERT_FALSE(said.empty());
    EXPECT_CONTAINS(said[0], "left out: " + file.string() + ":2: expected");

    const auto longer = f.folder.write("b.jsonl", "[[\"the day\", \" is long\"]]\n[[\"" + std::string(40, 'x') +
                                                      "\", \"y\"]]\n[[\"a\", \"" + std::string(40, 'x') + "\"]]\n");
    const auto cut = f.cache(longer, 16);
    EXPECT_EQ(cut->documents(), 2u);
    EXPECT_EQ(cut->skipped(), 1u);
    EXPECT_EQ(count_examples(*cut, 16).cut, 1u);
    EXPECT_EQ(cut->document(1).size(), 18u);
    EXPECT_CONTAINS(error_of([&] { f.cache(f.folder.write("c.jsonl", "[[\"" + std::string(40, 'x') + "\", \"y\"]]"), 16); }),
                    "no token of an answer is among the first 17");
}

// Examples of many lengths, each recognizable.
std::filesystem::path write_examples(const Fixture& f, int count) {
    std::string lines;
    for (int i = 0; i < count; i++) {
        const std::string id = std::to_string(i);
        if (i % 3 == 0)
            lines += R"([["the day )" + id + R"(", ")" + std::string(size_t(1 + i * 7 % 23), 'y') + "\"]]\n";
        else
            lines +=
                R"({"instruction": "day )" + id + R"(", "output": "the )" + std::string(size_t(1 + i * 5 % 17), 'z') + "\"}\n";
    }
    return f.folder.write("examples.jsonl", lines);
}

TEST(SftPacking, EveryExampleIsInOneWindowOfAnEpochWholeAndAlone) {
    Fixture f;
    constexpr int64_t seq_len = 128;
    const auto cache = f.cache(write_examples(f, 50), seq_len);
    const BatchOptions options{.batch_size = 1, .seq_len = seq_len, .seed = 3, .examples = true};
    const uint64_t windows = WindowStream(cache, options).windows_per_epoch();
    BatchSource source(cache, options);
    std::multiset<std::string> seen, expected;
    for (uint64_t d = 0; d < cache->documents(); d++) {
        std::vector<int32_t> packed;
        for (uint64_t i = 0; i < cache->document(d).size(); i++) packed.push_back(cache->document(d)[i]);
        expected.insert(f.shown(packed));
    }
    int64_t positions = 0, empty = 0;
    for (uint64_t w = 0; w < windows; w++) {
        EXPECT_EQ(source.position().epoch(), 0u);
        const Batch batch = source.next();
        for (int64_t i = 0; i < seq_len;) {
            const int32_t begin = batch.document_start[size_t(i)], end = batch.document_end[size_t(i)];
            ASSERT_EQ(begin, i);
            for (int64_t j = i; j < end; j++) {
                ASSERT_EQ(batch.document_start[size_t(j)], begin);
                ASSERT_EQ(batch.document_end[size_t(j)], end);
            }
            if (end == i + 1 && batch.labels[size_t(i)] == no_label) {  // filled up
                EXPECT_EQ(batch.ids[size_t(i)], 0);
                empty++;
            } else {
                // The example again, from inputs and labels.
                std::vector<int32_t> packed{pack_sft_token(batch.ids[size_t(i)], false)};
                for (int64_t j = i; j < end; j++) {
                    const int32_t label = batch.labels[size_t(j)];
                    const int32_t next = j + 1 < end ? batch.ids[size_t(j) + 1] : label;
                    ASSERT_TRUE(label == next || label == no_label);
                    packed.push_back(pack_sft_token(next, label != no_label));
                }
                seen.insert(f.shown(packed));
                positions += end - i;
            }
            i = end;
        }
    }
    EXPECT_EQ(source.position().epoch(), 1u);
    EXPECT_EQ(seen, expected);
    EXPECT_LE(int64_t(windows), (positions + seq_len - 1) / seq_len + 1) << "hardly fewer windows could hold them";
    EXPECT_EQ(positions + empty, int64_t(windows) * seq_len);
}

TEST(SftPacking, RanksShareTheWindowsAndPlacesCanBeRestored) {
    Fixture f;
    const auto cache = f.cache(write_examples(f, 40), 48);
    const BatchOptions options{.batch_size = 2, .seq_len = 48, .seed = 3, .examples = true};
    BatchSource alone(cache, options);
    BatchOptions second = options;
    second.batch_size = 1, second.rank = 1, second.world_size = 2;
    BatchSource ranked(cache, second);
    for (int i = 0; i < 20; i++) {
        const DataPosition place = alone.position();
        const Batch both = alone.next(), mine = ranked.next();
        EXPECT_TRUE(std::equal(mine.ids.begin(), mine.ids.end(), both.ids.begin() + 48));
        EXPECT_EQ(alone.position(), ranked.position());
        BatchSource again(cache, options);
        again.restore(data_position_from_json(data_position_to_json(place)));
        EXPECT_EQ(again.next().labels, both.labels);
    }
}

TrainConfig sft_config(const Fixture& f, const std::filesystem::path& data) {
    TrainConfig c = test::tiny_config(f.folder / "tiny");
    c.model.tokenizer_path = (f.folder / "tokenizer").string();
    c.training.dataset = {data.string()};
    c.training.dataset_type = "sft";
    c.training.seq_len = 64;
    c.training.local_batch_size = 2;
    c.validation = {.enable = true, .dataset = {data.string()}, .freq = 1000};
    return c;
}

TEST(SftTraining, PackedExamplesHaveTheLossThatTheyHaveAlone) {
    Fixture f;
    constexpr int64_t seq_len = 64;
    const auto cache = f.cache(write_examples(f, 12), seq_len);
    TrainConfig config = sft_config(f, f.folder / "examples.jsonl");
    const LlamaConfig model = model_config(config, int64_t(f.tokenizer.vocab_size()));
    ParameterStore parameters(test::device(), model, llama_parameters(model, false, {}), DType::f32);
    parameters.initialize(1);
    TrainingStep training(test::device(), parameters, {.batch = 1, .seq_len = seq_len});
    training.prepare();
    const BatchOptions options{.batch_size = 1, .seq_len = seq_len, .seed = 3, .examples = true};
    BatchSource source(cache, options);
    double together = 0, alone = 0;
    int64_t labels = 0, labels_alone = 0;
    while (source.position().epoch() == 0) {
        const auto [nats, count] = training.evaluate(source.next());
        together += nats;
        labels += count;
    }
    for (uint64_t d = 0; d < cache->documents(); d++) {
        Batch batch(1, seq_len);
        const TokenSpan example = cache->document(d);
        for (int64_t i = 0; i < seq_len; i++) {
            const bool inside = uint64_t(i) + 1 < example.size();
            batch.document_start[size_t(i)] = inside ? 0 : int32_t(i);
            batch.document_end[size_t(i)] = inside ? int32_t(example.size()) - 1 : int32_t(i) + 1;
            if (!inside) continue;
            batch.ids[size_t(i)] = unpack_sft_token(example[uint64_t(i)]).id;
            const SftToken next = unpack_sft_token(example[uint64_t(i) + 1]);
            if (next.trained) batch.labels[size_t(i)] = next.id;
        }
        const auto [nats, count] = training.evaluate(batch);
        alone += nats;
        labels_alone += count;
    }
    EXPECT_EQ(labels, labels_alone);
    EXPECT_NEAR(together, alone, 1e-5 * alone);  // sums in fp32 in another order
}

TEST(SftTraining, ResumesWithTheSameBitsAndExportsWhatChatNeeds) {
    Fixture f;
    TrainConfig straight = sft_config(f, write_examples(f, 40));
    test::Log log;
    test::run(straight, {}, &log);
    EXPECT_TRUE(log.contains("answers     end by <|eot_id|>"));
    EXPECT_TRUE(log.contains("40 examples"));
    EXPECT_TRUE(log.contains("0 examples are longer than training.seq_len = 64"));
    EXPECT_TRUE(log.contains("validation loss"));
    TrainConfig stopped = straight;
    stopped.job.dump_folder += "-stopped";
    EXPECT_EQ(test::run_until(stopped, 5, false).step, 5);
    test::run(stopped, {.resume = true});
    test::expect_same_checkpoint(straight, stopped, 12);

    const Checkpoint checkpoint = open_checkpoint(straight.job.dump_folder, {});
    export_model(checkpoint, f.folder / "model", {});
    EXPECT_EQ(load_chat_template(f.folder / "model", f.tokenizer).source, llama3_chat_template);
    const std::vector<int32_t> ends = read_generation_config(f.folder / "model").eos_token_ids;
    EXPECT_NE(std::find(ends.begin(), ends.end(), *f.tokenizer.id("<|eot_id|>")), ends.end());
    EXPECT_NE(std::find(ends.begin(), ends.end(), *f.tokenizer.eos()), ends.end());
}

TEST(SftTraining, AnotherTemplateGoesWithTheModel) {
    Fixture f;
    TrainConfig c = sft_config(f, write_examples(f, 20));
    c.training.steps = 2;
    const std::string source =
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}"
        "{% endif %}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
    c.sft.chat_template = f.folder.write("plain.jinja", source).string();
    test::Log log;
    test::run(c, {}, &log);
    EXPECT_TRUE(log.contains("answers     end by <|end_of_text|>"));
    export_model(open_checkpoint(c.job.dump_folder, {}), f.folder / "model", {});
    EXPECT_EQ(load_chat_template(f.folder / "model", f.tokenizer).source, source);

    c.job.dump_folder += "-endless";
    c.sft.chat_template = f.folder.write("endless.jinja", "{% for m in messages %}{{ m.content }}\n{% endfor %}").string();
    EXPECT_CONTAINS(error_of([&] { test::run(c); }), "ends an answer by no special token");
    c.training.dataset_type = "text";
    EXPECT_CONTAINS(error_of([&] { test::run(c); }), "[sft] needs training.dataset_type");
}

TEST(SftTraining, RealSetsAreReadWhole) {
    const std::filesystem::path data = test::data_folder() / "sft";
    if (!std::filesystem::exists(data)) GTEST_SKIP() << "needs " << data;
    Fixture f;
    std::vector<std::string> said;
    const TokenCache cache = tokenize_corpus(corpus_files(data.string(), CorpusKind::examples), {.kind = CorpusKind::examples},
                                             f.encoder(4096), f.folder / "cache", 0);
    EXPECT_EQ(cache.documents(), 91u + 999u + 500u);
    const SftCounts counts = count_examples(cache, 4096);
    EXPECT_GT(counts.trained, cache.tokens() / 3);
    EXPECT_LT(counts.trained, cache.tokens());
}

}  // namespace
}  // namespace vkqat
