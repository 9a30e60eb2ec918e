#include "app/core/chats.h"

#include <algorithm>

#include "runtime/support/clock.h"
#include "runtime/support/error.h"
#include "runtime/support/files.h"

namespace vkqat {
namespace {

constexpr double journal_every = 0.25;  // seconds

}  // namespace

std::vector<std::string> Chats::load() {
    Store::Found found = store_.load();
    for (Conversation& c : found.conversations) conversations_.push_back(std::make_unique<Conversation>(std::move(c)));
    return std::move(found.damaged);
}

std::vector<Conversation*> Chats::sorted() {
    std::vector<Conversation*> list;
    for (auto& c : conversations_) list.push_back(c.get());
    std::stable_sort(list.begin(), list.end(), [](const Conversation* a, const Conversation* b) {
        return std::tuple(b->pinned, b->updated, b->id) < std::tuple(a->pinned, a->updated, a->id);
    });
    return list;
}

Conversation* Chats::find(const std::string& id) {
    for (auto& c : conversations_)
        if (c->id == id) return c.get();
    return nullptr;
}

Conversation& Chats::create(const ChatSettings& settings, const std::string& model) {
    auto c = std::make_unique<Conversation>(new_conversation());
    c->settings = settings;
    c->model = model;
    conversations_.push_back(std::move(c));
    return *conversations_.back();
}

Conversation& Chats::duplicate(const Conversation& of) {
    auto copy = std::make_unique<Conversation>(of);
    const Conversation fresh = new_conversation();
    copy->id = fresh.id;
    copy->created = copy->updated = fresh.created;
    copy->title = of.shown_title() + " (copy)";
    copy->titled = true;
    copy->pinned = false;
    conversations_.push_back(std::move(copy));
    store_.save(*conversations_.back());
    return *conversations_.back();
}

void Chats::remove(const std::string& id) {
    for (size_t i = 0; i < conversations_.size(); i++) {
        if (conversations_[i]->id != id) continue;
        stop(*conversations_[i]);
        poll(0);
        std::erase_if(generations_, [&](const Generation& g) { return g.conversation == id; });
        store_.save(*conversations_[i]);
        store_.remove(id);
        removed_ = std::move(conversations_[i]);
        conversations_.erase(conversations_.begin() + ptrdiff_t(i));
        return;
    }
}

Conversation* Chats::undo_remove() {
    if (!removed_) return nullptr;
    store_.restore(removed_->id);
    conversations_.push_back(std::move(removed_));
    store_.save(*conversations_.back());
    return conversations_.back().get();
}

Conversation& Chats::import(const std::filesystem::path& file) {
    auto c = std::make_unique<Conversation>(conversation_from_json(read_text_file(file, size_t(256) << 20), file.string()));
    if (!c->titled && c->messages.empty()) c->title = file.stem().string(), c->titled = true;
    c->id = new_conversation().id;
    conversations_.push_back(std::move(c));
    store_.save(*conversations_.back());
    return *conversations_.back();
}

void Chats::changed(Conversation& conversation, bool touch) {
    if (touch) conversation.updated = new_conversation().updated;
    store_.save(conversation);
}

void Chats::send(Conversation& c, const std::string& text, const std::vector<int>& engines) {
    const std::vector<int> path = c.path();
    const int message = c.add(path.empty() ? -1 : path.back(), Role::user, text);
    c.draft.clear();
    std::vector<int> answers;
    for (size_t i = 0; i < engines.size(); i++) answers.push_back(c.add(message, Role::assistant, ""));
    for (size_t i = 0; i < engines.size(); i++) ask(c, answers[i], engines[i], false);
    if (!answers.empty()) c.choose(answers.front());
    changed(c, true);
}

void Chats::regenerate(Conversation& c, int answer, const std::vector<int>& engines) {
    const int parent = c.messages.at(size_t(answer)).parent;
    std::vector<int> answers;
    for (size_t i = 0; i < engines.size(); i++) answers.push_back(c.add(parent, Role::assistant, ""));
    for (size_t i = 0; i < engines.size(); i++) ask(c, answers[i], engines[i], false);
    if (!answers.empty()) c.choose(answers.front());
    changed(c, true);
}

void Chats::edit(Conversation& c, int message, const std::string& text, const std::vector<int>& engines) {
    const Message old = c.messages.at(size_t(message));
    const int edited = c.add(old.parent, old.role, text);
    if (old.role == Role::assistant) {
        c.messages[size_t(edited)].model = old.model;
        changed(c, true);
        return;
    }
    std::vector<int> answers;
    for (size_t i = 0; i < engines.size(); i++) answers.push_back(c.add(edited, Role::assistant, ""));
    for (size_t i = 0; i < engines.size(); i++) ask(c, answers[i], engines[i], false);
    if (!answers.empty()) c.choose(answers.front());
    changed(c, true);
}

void Chats::continue_answer(Conversation& c, int answer, int engine) {
    if (generation(c, answer)) return;
    ask(c, answer, engine, true);
    changed(c, true);
}

void Chats::ask(Conversation& c, int answer, int engine, bool go_on) {
    Message& message = c.messages[size_t(answer)];
    AnswerRequest request;
    request.messages = go_on ? c.prompt(answer) : c.prompt(message.parent);
    request.sampling = c.settings.sampling;
    request.max_tokens = c.settings.max_tokens;
    request.continue_last = go_on;
    if (!go_on) message.model = engines_.name(engine);
    Generation g{c.id, answer, engine, message.content.size(), engines_.ask(engine, std::move(request)), {}};
    g.journaled = message.content.size();
    generations_.push_back(std::move(g));
}

void Chats::stop(const Conversation& conversation) {
    for (Generation& g : generations_)
        if (g.conversation == conversation.id) g.answer->stop();
}

void Chats::stop_all() {
    for (Generation& g : generations_) g.answer->stop();
}

const Chats::Generation* Chats::generation(const Conversation& conversation, int message) const {
    for (const Generation& g : generations_)
        if (g.message == message && g.conversation == conversation.id) return &g;
    return nullptr;
}

bool Chats::generating(const Conversation& conversation) const {
    return std::any_of(generations_.begin(), generations_.end(),
                       [&](const Generation& g) { return g.conversation == conversation.id; });
}

bool Chats::poll(double now) {
    bool news = false;
    for (size_t i = 0; i < generations_.size();) {
        Generation& g = generations_[i];
        Answer::State state = g.answer->state();
        Conversation* c = find(g.conversation);
        news |= state.text.size() != g.seen.text.size() || state.done || state.prompt_progress != g.seen.prompt_progress;
        if (c) {
            Message& message = c->messages[size_t(g.message)];
            message.content.resize(g.base);
            message.content += state.text;
            message.stats = state.stats;
            if (state.done) {
                if (state.failed && message.content.empty()) message.content = "";
                changed(*c, true);
            } else if (message.content.size() > g.journaled && now - g.journaled_at >= journal_every) {
                store_.append(*c, g.message, g.journaled, message.content.substr(g.journaled));
                g.journaled = message.content.size();
                g.journaled_at = now;
            }
        }
        if (state.done || !c) {
            generations_.erase(generations_.begin() + ptrdiff_t(i));
        } else {
            g.seen = std::move(state);
            i++;
        }
    }
    return news;
}

void Chats::search(std::string query) {
    query_ = std::move(query);
    hits_.clear();
    searched_ = 0;
}

bool Chats::search_step(double budget_seconds) {
    const Clock::time_point start = Clock::now();
    while (searched_ < conversations_.size() && seconds_since(start) < budget_seconds) {
        const Conversation& c = *conversations_[searched_++];
        bool hit = find_text(c.shown_title(), query_) != std::string::npos;
        for (size_t i = 0; i < c.messages.size() && !hit; i++)
            hit = find_text(c.messages[i].content, query_) != std::string::npos;
        if (hit) hits_.push_back(c.id);
    }
    return searched_ >= conversations_.size();
}

}  // namespace vkqat
