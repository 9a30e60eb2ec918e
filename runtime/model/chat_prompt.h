// From the messages of a conversation to the ids that a model continues.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "runtime/formats/llama_config.h"
#include "runtime/text/chat_encoder.h"

namespace vkqat {

struct ChatFormat {
    ChatEncoder encoder;
    std::vector<int32_t> ends;  // ids that end an answer
    bool made_for_chat = true;  // false: neither a template nor Llama 3's tokens for turns: such a model continues a text
};

// Of a model directory or .gguf file. Error where the template cannot be parsed.
ChatFormat load_chat_format(const std::filesystem::path& directory, const GenerationConfig& generation,
                            const Tokenizer& tokenizer);

struct ChatPrompt {
    std::vector<int32_t> ids;
    size_t dropped = 0;  // messages left out at the beginning
};

// The prompt that `messages` make: a system message first, if any, then turns. Where the prompt would have more than `limit` ids,
// the oldest turns (a user's message with its answer) are dropped; the system message and the last message stay. Where these
// alone are too long, the result has more than `limit` ids. With `continue_last` the last message is an answer that was broken
// off: the prompt ends behind its last token. Not made for chat: the messages' text as it stands, a new line for each turn.
ChatPrompt make_chat_prompt(const ChatFormat& format, std::span<const ChatMessage> messages, int64_t limit,
                            bool continue_last = false);

}  // namespace vkqat
