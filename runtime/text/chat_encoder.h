// Conversations as token ids: prompts for the next answer, and examples to learn answers from. Special tokens that a message
// holds in its text are text.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "runtime/text/chat_template.h"

namespace vkqat {

// A conversation, or any text of which parts are to be learnt.
struct EncodedExample {
    std::vector<TokenId> ids;
    std::vector<bool> trained;  // by id: whether it is to be predicted
    std::string problem;        // what is wrong; then the rest is empty
};

class ChatEncoder {
public:
    ChatEncoder(Tokenizer tokenizer, ChatTemplate chat_template);

    // The prompt for the assistant's next answer, start token included. Error as render_chat().
    std::vector<TokenId> prompt(std::span<const ChatMessage> messages) const;

    // What is to be learnt of a conversation are the answers for which `trained` says so (by message), with the tokens that end
    // them and without white space behind these. An answer's prompt has the ids that prompt() gives. What stands behind the last
    // answer that is learnt is left out. At most about `max_tokens` ids are made, the first ones.
    struct Conversation {
        std::vector<ChatMessage> messages;
        std::vector<bool> trained;  // by message; true only for the role "assistant"
    };
    std::vector<EncodedExample> examples(std::span<const Conversation> conversations, size_t max_tokens) const;

    // A text and what follows it, with BOS in front and EOS behind, where the tokenizer has them; the continuation is learnt.
    EncodedExample continuation(const std::string& prompt, const std::string& continuation) const;

    // The special token that ends an answer; nothing if the template ends it by none.
    std::optional<TokenId> turn_end() const;

    const Tokenizer& tokenizer() const { return tokenizer_; }
    const ChatTemplate& chat_template() const { return template_; }

private:
    std::vector<ChatMessage> hidden(std::span<const ChatMessage> messages, std::string& mark) const;
    EncodedExample encode(const RenderedTurns& turns, const std::string& mark, const std::vector<bool>& trained,
                          size_t max_tokens) const;

    Tokenizer tokenizer_;
    ChatTemplate template_;
    std::vector<std::vector<std::string>> special_;  // special tokens by their first byte
};

}  // namespace vkqat
