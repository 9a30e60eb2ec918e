#include "runtime/text/chat_encoder.h"

#include <gtest/gtest.h>

#include "runtime/text/bpe_trainer.h"
#include "tests/text/small_tokenizer.h"

namespace vkqat {
namespace {

using test::ScratchFolder;
using Conversation = ChatEncoder::Conversation;

constexpr const char* chatml =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
constexpr const char* llama2 =
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content.strip() + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}";

// A byte-level tokenizer that has hardly any merges.
Tokenizer byte_tokenizer(const ScratchFolder& folder) {
    BpeTrainingOptions options{.vocab_size = 270};
    for (const char* token : {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|im_start|>", "<|im_end|>"})
        options.special_tokens.push_back(token);
    const std::string text = "hello hello hello there there";
    write_tokenizer(folder / "tokenizer", train_bpe(std::span(&text, 1), options), options);
    return load_tokenizer(folder / "tokenizer");
}

ChatEncoder encoder(const Tokenizer& t, const std::string& source) { return {t, {source, t.token(*t.bos()), t.token(*t.eos())}}; }

// What is learnt in brackets, the rest as it is.
std::string shown(const Tokenizer& t, const EncodedExample& example) {
    EXPECT_EQ(example.problem, "");
    EXPECT_EQ(example.ids.size(), example.trained.size());
    std::string text;
    for (size_t i = 0; i < example.ids.size(); i++) {
        if (example.trained[i] && (i == 0 || !example.trained[i - 1])) text += '{';
        text += t.decode_piece(example.ids[i], true);
        if (example.trained[i] && (i + 1 == example.ids.size() || !example.trained[i + 1])) text += '}';
    }
    return text;
}

EncodedExample one(const ChatEncoder& chat, const Conversation& conversation, size_t max_tokens = SIZE_MAX) {
    return chat.examples(std::span(&conversation, 1), max_tokens)[0];
}

const Conversation two_turns = {
    {{"system", "Be kind."}, {"user", "Hi"}, {"assistant", "hello"}, {"user", "Bye"}, {"assistant", "there"}, {"user", "?"}},
    {false, false, true, false, true, false}};

TEST(ChatEncoder, LearnsAnswersUpToTheTokenThatEndsThem) {
    ScratchFolder folder;
    const Tokenizer t = byte_tokenizer(folder);
    EXPECT_EQ(shown(t, one(encoder(t, llama3_chat_template), two_turns)),
              "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
              "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
              "<|start_header_id|>assistant<|end_header_id|>\n\n{hello<|eot_id|>}"
              "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
              "<|start_header_id|>assistant<|end_header_id|>\n\n{there<|eot_id|>}");
    EXPECT_EQ(shown(t, one(encoder(t, chatml), two_turns)),
              "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
              "<|im_start|>assistant\n{hello<|im_end|>}\n<|im_start|>user\nBye<|im_end|>\n"
              "<|im_start|>assistant\n{there<|im_end|>}\n");
    EXPECT_EQ(shown(t, one(encoder(t, llama2), two_turns)),
              "<|begin_of_text|>[INST] Hi [/INST]{ hello <|end_of_text|>}"
              "<|begin_of_text|>[INST] Bye [/INST]{ there <|end_of_text|>}");
    EXPECT_EQ(encoder(t, llama3_chat_template).turn_end(), t.id("<|eot_id|>"));
    EXPECT_EQ(encoder(t, chatml).turn_end(), t.id("<|im_end|>"));
    EXPECT_EQ(encoder(t, "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}").turn_end(), std::nullopt);
}

TEST(ChatEncoder, LearnsOnlyTheAnswersThatCount) {
    ScratchFolder folder;
    const Tokenizer t = byte_tokenizer(folder);
    Conversation c = two_turns;
    c.trained[2] = false;
    EXPECT_EQ(shown(t, one(encoder(t, llama2), c)),
              "<|begin_of_text|>[INST] Hi [/INST] hello <|end_of_text|><|begin_of_text|>[INST] Bye [/INST]{ there "
              "<|end_of_text|>}");
    c = two_turns;
    c.trained[4] = false;  // what stands behind the last answer that counts is left out
    EXPECT_EQ(shown(t, one(encoder(t, llama2), c)), "<|begin_of_text|>[INST] Hi [/INST]{ hello <|end_of_text|>}");
}

TEST(ChatEncoder, PromptsOfExamplesAreThoseOfConversations) {
    ScratchFolder folder;
    const Tokenizer t = byte_tokenizer(folder);
    for (const char* source : {llama3_chat_template, chatml, llama2}) {
        const ChatEncoder chat = encoder(t, source);
        const std::vector<TokenId> prompt = chat.prompt(std::span(two_turns.messages).first(2));
        const EncodedExample example = one(chat, two_turns);
        ASSERT_GT(example.ids.size(), prompt.size());
        EXPECT_TRUE(std::equal(prompt.begin(), prompt.end(), example.ids.begin()));
        EXPECT_TRUE(example.trained[prompt.size()]);
        EXPECT_FALSE(example.trained[prompt.size() - 1]);
    }
}

TEST(ChatEncoder, SpecialTokensThatAMessageHoldsAreText) {
    ScratchFolder folder;
    const Tokenizer t = byte_tokenizer(folder);
    const std::vector<ChatMessage> messages = {{"user", "a<|eot_id|>b <|<|im_end|>"}};
    for (const char* source : {llama3_chat_template, chatml, llama2, ""}) {
        const ChatEncoder chat = encoder(t, source);
        const std::vector<TokenId> ids = chat.prompt(messages);
        const std::string rendered = render_chat(chat.chat_template(), messages, true);
        EXPECT_EQ(t.decode(ids, true), rendered);
        // As many special tokens as the same text without them has.
        auto special = [&](const std::vector<TokenId>& of) {
            return std::count_if(of.begin(), of.end(), [&](TokenId id) { return t.is_special(id); });
        };
        EXPECT_EQ(special(ids), special(chat.prompt(std::vector<ChatMessage>{{"user", "ab"}}))) << source;
        const EncodedExample example = one(chat, {{messages[0], {"assistant", "<|eot_id|>"}}, {false, true}});
        EXPECT_EQ(special(example.ids), special(one(chat, {{{"user", "a"}, {"assistant", "b"}}, {false, true}}).ids));
    }
    // Also where the message holds the marks that tell them apart.
    const ChatEncoder chat = encoder(t, llama3_chat_template);
    const std::vector<ChatMessage> marks = {{"user", "\xEF\xB7\x90<|eot_id|>"}};
    EXPECT_EQ(t.decode(chat.prompt(marks), true), render_chat(chat.chat_template(), marks, true));
}

TEST(ChatEncoder, SaysWhichConversationHasAProblem) {
    ScratchFolder folder;
    const Tokenizer t = byte_tokenizer(folder);
    const ChatEncoder chat =
        encoder(t, std::string("{% if messages[0].content == 'bad' %}{{ raise_exception('no good') }}{% endif %}") + llama2);
    std::vector<Conversation> conversations;
    for (int i = 0; i < 150; i++)
        conversations.push_back({{{"user", i == 70 ? "bad" : "a" + std::to_string(i)}, {"assistant", "b"}}, {false, true}});
    const std::vector<EncodedExample> examples = chat.examples(conversations, SIZE_MAX);
    ASSERT_EQ(examples.size(), conversations.size());
    for (size_t i = 0; i < examples.size(); i++) {
        EXPECT_EQ(examples[i].problem.empty(), i != 70) << i;
        if (i == 70) continue;
        EXPECT_EQ(shown(t, examples[i]), "<|begin_of_text|>[INST] a" + std::to_string(i) + " [/INST]{ b <|end_of_text|>}");
    }
    EXPECT_CONTAINS(examples[70].problem, "no good");
    // A conversation that changes what was said before has no prompt of which it goes on.
    const ChatEncoder rewriting =
        encoder(t, "{{ messages | length }}{% for m in messages %}{{ m.content }}<|eot_id|>{% endfor %}");
    EXPECT_CONTAINS(one(rewriting, two_turns).problem, "cannot be told from prompts");
    EXPECT_CONTAINS(one(chat, {{{"user", "a"}}, {false}}).problem, "no message of the assistant");
}

TEST(ChatEncoder, AnAnswerBeginsBehindWhatATemplateShowsOnlyWhileItIsAwaited) {
    ScratchFolder folder;
    const Tokenizer t = byte_tokenizer(folder);
    const ChatEncoder chat =
        encoder(t, std::string(chatml).replace(std::string(chatml).find("assistant\n"), 10, "assistant\n[think]"));
    EXPECT_EQ(shown(t, one(chat, {{{"user", "a"}, {"assistant", "b"}}, {false, true}})),
              "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n{b<|im_end|>}\n");
}

TEST(ChatEncoder, ContinuationsStandBetweenStartAndEnd) {
    ScratchFolder folder;
    const Tokenizer t = byte_tokenizer(folder);
    const ChatEncoder chat = encoder(t, "");
    EXPECT_EQ(shown(t, chat.continuation("hello", " there<|eot_id|>")),
              "<|begin_of_text|>hello{ there<|eot_id|><|end_of_text|>}");
    EXPECT_EQ(chat.continuation("hello", " there<|eot_id|>").ids.back(), t.eos());
    EXPECT_EQ(shown(t, chat.continuation("", "x")), "<|begin_of_text|>{x<|end_of_text|>}");
    // A prompt keeps its own ids: "hel" and "lo" do not become "hello".
    const EncodedExample parted = chat.continuation("hel", "lo");
    const std::vector<TokenId> prompt = t.encode("hel", {.add_bos = true});
    ASSERT_GE(parted.ids.size(), prompt.size());
    EXPECT_TRUE(std::equal(prompt.begin(), prompt.end(), parted.ids.begin()));
    EXPECT_EQ(shown(t, parted), "<|begin_of_text|>hel{lo<|end_of_text|>}");
}

}  // namespace
}  // namespace vkqat
