// All conversations and what can be done with them. Answers come from engines; poll() brings their text into the messages.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/core/conversation.h"
#include "app/core/engine.h"
#include "app/core/store.h"

namespace vkqat {

class Chats {
public:
    // What answers: engines by number, and the names of their models.
    struct Engines {
        std::function<std::shared_ptr<Answer>(int engine, AnswerRequest request)> ask;
        std::function<std::string(int engine)> name;
    };
    Chats(Store& store, Engines engines) : store_(store), engines_(std::move(engines)) {}

    std::vector<std::string> load();  // from the store; what was damaged
    // Pinned ones first, then by the time of the last change.
    std::vector<Conversation*> sorted();
    Conversation* find(const std::string& id);
    size_t count() const { return conversations_.size(); }

    Conversation& create(const ChatSettings& settings, const std::string& model);
    Conversation& duplicate(const Conversation& conversation);
    void remove(const std::string& id);
    Conversation* undo_remove();  // the last one that was removed
    bool can_undo() const { return removed_ != nullptr; }
    Conversation& import(const std::filesystem::path& file);       // a conversation's JSON; Error if it is none
    void changed(Conversation& conversation, bool touch = false);  // saves it; touch: it was talked in

    // A message and its answer by each of these engines; the first one's is chosen.
    void send(Conversation& conversation, const std::string& text, const std::vector<int>& engines);
    // Another answer beside this one.
    void regenerate(Conversation& conversation, int answer, const std::vector<int>& engines);
    // The other text as a sibling: an edited message is answered anew, an edited answer stands as it is.
    void edit(Conversation& conversation, int message, const std::string& text, const std::vector<int>& engines);
    void continue_answer(Conversation& conversation, int answer, int engine);
    void stop(const Conversation& conversation);
    void stop_all();

    // What is being made.
    struct Generation {
        std::string conversation;
        int message, engine;
        size_t base;  // bytes that were there before
        std::shared_ptr<Answer> answer;
        Answer::State seen;
        size_t journaled = 0;
        double journaled_at = 0;
    };
    const std::vector<Generation>& generations() const { return generations_; }
    const Generation* generation(const Conversation& conversation, int message) const;
    bool generating(const Conversation& conversation) const;
    // Takes what the engines have made; true if anything is new. `now`: seconds that go forward.
    bool poll(double now);

    // Conversations that hold the words; a step of at most `budget_seconds`, until it returns true.
    void search(std::string query);
    bool search_step(double budget_seconds);
    const std::string& query() const { return query_; }
    const std::vector<std::string>& hits() const { return hits_; }

private:
    void ask(Conversation& conversation, int answer, int engine, bool go_on);

    Store& store_;
    Engines engines_;
    std::vector<std::unique_ptr<Conversation>> conversations_;
    std::unique_ptr<Conversation> removed_;
    std::vector<Generation> generations_;
    std::string query_;
    std::vector<std::string> hits_;
    size_t searched_ = 0;
};

}  // namespace vkqat
