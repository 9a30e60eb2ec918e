// From a conversation to the prompt that a model was trained with.
#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "runtime/text/tokenizer.h"

namespace vkqat {

struct ChatMessage {
    std::string role;  // "system", "user", "assistant"
    std::string content;
};

struct ChatTemplate {
    std::string source;  // Jinja; empty: Llama 3's format
    std::string bos_token, eos_token;
};

// The template of a model: of a GGUF file, tokenizer.chat_template; of a directory, chat_template.jinja, else `chat_template` of tokenizer_config.json, a string or a list of
// named ones (then that named "default"); where there is none, Llama 3's format. Error where it cannot be parsed.
ChatTemplate load_chat_template(const std::filesystem::path& directory, const Tokenizer& tokenizer);

// The prompt as text, start token included: encode it with add_bos = false and parse_special = true. `add_generation_prompt`:
// ends where the assistant's answer begins. A Jinja template comes from outside, so it runs in a process of its own with limits
// on time and memory; Error if it exceeds them, crashes, or raises an exception.
std::string render_chat(const ChatTemplate& chat_template, std::span<const ChatMessage> messages, bool add_generation_prompt);

}  // namespace vkqat
