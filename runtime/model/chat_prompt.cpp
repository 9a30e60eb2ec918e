#include "runtime/model/chat_prompt.h"

#include <algorithm>

#include "runtime/model/model_directory.h"

namespace vkqat {
namespace {

std::string plain_text(std::span<const ChatMessage> messages) {
    std::string text;
    for (const ChatMessage& message : messages) {
        if (!text.empty() && message.role != "assistant") text += "\n";
        text += message.content;
    }
    return text;
}

}  // namespace

ChatFormat load_chat_format(const std::filesystem::path& directory, const GenerationConfig& generation,
                            const Tokenizer& tokenizer) {
    ChatFormat format{ChatEncoder(tokenizer, load_chat_template(directory, tokenizer)), end_ids(generation, tokenizer)};
    for (const char* token : {"<|eot_id|>", "<|im_end|>"})
        if (std::optional<TokenId> id = tokenizer.id(token)) format.ends.push_back(*id);
    if (const std::optional<TokenId> end = format.encoder.turn_end()) format.ends.push_back(*end);
    format.made_for_chat = !format.encoder.chat_template().source.empty() || tokenizer.id("<|start_header_id|>").has_value();
    return format;
}

ChatPrompt make_chat_prompt(const ChatFormat& format, std::span<const ChatMessage> messages, int64_t limit, bool continue_last) {
    const size_t first = !messages.empty() && messages.front().role == "system" ? 1 : 0;
    auto without = [&](size_t dropped) {
        std::vector<ChatMessage> kept(messages.begin(), messages.begin() + ptrdiff_t(first));
        kept.insert(kept.end(), messages.begin() + ptrdiff_t(first + dropped), messages.end());
        if (!format.made_for_chat) return ChatPrompt{format.encoder.tokenizer().encode(plain_text(kept)), dropped};
        const size_t rendered = kept.size() - (continue_last ? 1 : 0);
        ChatPrompt result{format.encoder.prompt(std::span(kept).first(rendered)), dropped};
        if (continue_last) {
            const std::vector<TokenId> begun = format.encoder.tokenizer().encode(kept.back().content, {.add_bos = false});
            result.ids.insert(result.ids.end(), begun.begin(), begun.end());
        }
        return result;
    };
    auto fits = [&](const ChatPrompt& prompt) { return int64_t(prompt.ids.size()) <= limit; };
    ChatPrompt prompt = without(0);
    const size_t needed = first + (continue_last ? 2 : 1);
    if (fits(prompt) || messages.size() <= needed) return prompt;
    // The fewest turns that have to go, by halving: each trial may run a template in a process of its own.
    const size_t droppable = messages.size() - needed;
    size_t low = 0, high = (droppable + 1) / 2;  // turns: with `low` dropped it does not fit
    auto messages_of = [&](size_t turns) { return std::min(2 * turns, droppable); };
    prompt = without(messages_of(high));
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        ChatPrompt trial = without(messages_of(middle));
        if (fits(trial)) {
            prompt = std::move(trial);
            high = middle;
        } else {
            low = middle;
        }
    }
    return prompt;
}

}  // namespace vkqat
