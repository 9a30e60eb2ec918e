// Examples for supervised fine-tuning: conversations, instructions, prompts with continuations, as token ids of which some are to
// be learnt.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/chat_encoder.h"
#include "trainer/token_cache.h"

namespace vkqat {

// One example as a file has it.
struct SftExample {
    ChatEncoder::Conversation conversation;  // empty where there is a continuation
    std::string prompt;
    std::optional<std::string> continuation;
};

// The forms, each a JSON value (files are untrusted: an Error says what was expected and what was found):
// - {"messages": [{"role": ..., "content": ...}, ...]}: content a string, or a list of {"type": "text", "text": ...} (or
// "value").
//   A message of the assistant is learnt unless its "weight" (or "loss_weight") is 0; others never are.
// - {"instruction": ..., "input": ..., "output": ...} as Alpaca has it, also with "system" and "history", a list of [question,
//   answer], both of earlier turns: the input stands under the instruction in the user's message.
// - [[prompt, continuation]] or [prompt, continuation] as BitDistiller writes it: text without a template.
SftExample parse_sft_example(std::string_view json);

struct SftOptions {
    int64_t seq_len = 0;
    bool train_on_prompts = false;  // prompts are learnt, too, as BitDistiller's published code does
};

// A token of an example as it lies in a TokenCache: its id, and whether it is to be predicted.
struct SftToken {
    int32_t id;
    bool trained;
};
constexpr int32_t pack_sft_token(int32_t id, bool trained) { return id * 2 + trained; }
constexpr SftToken unpack_sft_token(int32_t packed) { return {packed / 2, packed % 2 != 0}; }

// Of an example with more than seq_len + 1 tokens the first seq_len + 2 are kept (WindowStream cuts it at its end, and knows by
// the last one that it was longer). One without an answer in the first seq_len + 1 is left out. vocab_size is twice the
// tokenizer's.
TextEncoder sft_encoder(const ChatEncoder& chat, const std::filesystem::path& tokenizer, const SftOptions& options);

// What a corpus of examples holds.
struct SftCounts {
    uint64_t trained = 0;  // tokens that are to be predicted
    uint64_t cut = 0;      // examples of more than seq_len + 1 tokens
};
SftCounts count_examples(const TokenCache& tokens, int64_t seq_len);

}  // namespace vkqat
