#include "app/core/engine.h"

#include <algorithm>

#include "runtime/formats/llama_config.h"
#include "runtime/model/chat_prompt.h"
#include "runtime/model/model_directory.h"
#include "runtime/model/session.h"
#include "runtime/support/clock.h"
#include "runtime/text/utf8.h"
#include "runtime/vulkan/device.h"

namespace vkqat {
namespace {

struct Cancelled {};

constexpr double measure_every = 1;  // seconds between two tokens that are measured for a live profile
constexpr double tell_every = 0.03;  // seconds between two looks that the interface is asked for

}  // namespace

struct Engine::Loaded {
    Loaded(const std::string& selector) : device(instance, DeviceOptions{.selector = selector}) {}
    Instance instance;
    Device device;
    GenerationConfig generation;
    std::optional<Tokenizer> tokenizer;
    std::optional<ChatFormat> format;
    std::optional<LlamaWeights> weights;
    std::optional<Session> session;
    int64_t prefill_rows = 64;
};

Engine::Engine(std::function<void()> changed) : changed_(std::move(changed)) {
    thread_ = std::thread([this] { run(); });
}

Engine::~Engine() {
    {
        std::lock_guard lock(mutex_);
        end_ = true;
        load_number_++;
        if (current_) current_->stop();
    }
    wake_.notify_all();
    thread_.join();
}

template <class Change>
void Engine::update(Change&& change) {
    {
        std::lock_guard lock(mutex_);
        change(state_);
    }
    changed_();
}

EngineState Engine::state() const {
    std::lock_guard lock(mutex_);
    EngineState state = state_;
    state.waiting = queue_.size();
    return state;
}

std::shared_ptr<const ModelProfile> Engine::last_profile() const {
    std::lock_guard lock(mutex_);
    return profile_;
}

void Engine::post(std::function<void()> work) {
    {
        std::lock_guard lock(mutex_);
        queue_.push_back(std::move(work));
    }
    wake_.notify_all();
}

void Engine::run() {
    std::unique_lock lock(mutex_);
    while (true) {
        wake_.wait(lock, [&] { return end_ || !queue_.empty(); });
        if (end_) break;
        auto work = std::move(queue_.front());
        queue_.pop_front();
        lock.unlock();
        work();
        lock.lock();
    }
    lock.unlock();
    loaded_.reset();
}

void Engine::load(LoadRequest request) {
    const uint64_t number = ++load_number_;
    newest_load_ = number;
    {
        std::lock_guard lock(mutex_);
        if (current_) current_->stop();
        state_.status = EngineStatus::loading;
        state_.model = request.model;
        state_.name = model_name(request.model);
        state_.message = "waiting";
        state_.progress = 0;
    }
    post([this, request = std::move(request), number] { do_load(request, number); });
}

void Engine::cancel_load() { ++load_number_; }

void Engine::unload() {
    ++load_number_;
    {
        std::lock_guard lock(mutex_);
        if (current_) current_->stop();
    }
    post([this] { drop("", EngineStatus::empty); });
}

void Engine::drop(const std::string& why, EngineStatus status) {
    loaded_.reset();
    update([&](EngineState& s) {
        const std::filesystem::path model = s.model;
        const std::string name = s.name;
        s = EngineState{};
        s.status = status;
        s.message = why;
        if (status == EngineStatus::failed) s.model = model, s.name = name;
    });
}

void Engine::do_load(const LoadRequest& request, uint64_t number) {
    if (number != load_number_) {
        if (number == newest_load_) drop("", EngineStatus::empty);
        return;
    }
    const Clock::time_point start = Clock::now();
    auto stage = [&](const char* what) {
        if (number != load_number_) throw Cancelled{};
        update([&](EngineState& s) { s.message = what; });
    };
    try {
        loaded_.reset();
        stage("reading the model's settings");
        check_model_directory(request.model);
        const LlamaConfig config = read_llama_config(request.model);
        stage("starting the device");
        auto next = std::make_unique<Loaded>(request.device);
        SessionOptions options = session_options(next->device, request.context);
        if (options.context == 0) options.context = std::min<int64_t>(config.max_position_embeddings, 4096);
        if (request.cache) options.cache = *request.cache;
        stage("planning memory");
        MemoryNeed need;
        {
            const LlamaWeights planned(next->device, request.model, LlamaWeights::Planned{});
            require_memory(planned, sequences_options(options), model_name(request.model));
            need = memory_need(planned, sequences_options(options));
        }
        stage("reading the tokenizer");
        next->generation = read_generation_config(request.model);
        next->tokenizer = need_tokenizer(request.model, config);
        next->format.emplace(load_chat_format(request.model, next->generation, *next->tokenizer));
        stage("loading weights");
        Clock::time_point told = start;
        next->weights.emplace(next->device, request.model, [&](uint64_t done, uint64_t total) {
            if (number != load_number_) throw Cancelled{};
            if (seconds_since(told) < tell_every) return;
            told = Clock::now();
            update([&](EngineState& s) { s.progress = total ? double(done) / double(total) : 0; });
        });
        update([&](EngineState& s) { s.progress = 1; });
        stage("preparing the graphs");
        next->session.emplace(*next->weights, options);
        next->prefill_rows = options.prefill_rows;
        if (number != load_number_) throw Cancelled{};
        loaded_ = std::move(next);
        update([&](EngineState& s) {
            const size_t waiting = s.waiting;
            s = EngineState{};
            s.waiting = waiting;
            s.status = EngineStatus::ready;
            s.model = request.model;
            s.name = model_name(request.model);
            s.device = loaded_->device.capabilities().name;
            s.cpu = loaded_->device.capabilities().kind == DeviceKind::cpu;
            s.context = loaded_->session->context();
            s.memory = need;
            s.made_for_chat = loaded_->format->made_for_chat;
            s.load_seconds = seconds_since(start);
        });
    } catch (const Cancelled&) {
        if (number == newest_load_) drop("", EngineStatus::empty);  // cancelled; otherwise the next request follows
    } catch (const std::exception& e) {
        drop(e.what(), EngineStatus::failed);
    }
}

std::shared_ptr<Answer> Engine::answer(AnswerRequest request) {
    auto answer = std::make_shared<Answer>();
    post([this, answer, request = std::move(request)] {
        {
            std::lock_guard lock(mutex_);
            current_ = answer;
        }
        update([](EngineState& s) { s.busy = true; });
        try {
            if (!loaded_) fail("no model is loaded");
            do_answer(request, *answer);
        } catch (const std::exception& e) {
            {
                std::lock_guard lock(answer->mutex_);
                answer->state_.stats.end = e.what();
                answer->state_.failed = true;
            }
            // After a lost device nothing on it works any more; the window and the conversation are not touched by that.
            if (loaded_ && std::string_view(e.what()).find("lost") != std::string_view::npos)
                drop(fmt::format("{}; the model was unloaded and can be loaded again", e.what()), EngineStatus::failed);
        }
        {
            std::lock_guard lock(answer->mutex_);
            answer->state_.done = true;
        }
        {
            std::lock_guard lock(mutex_);
            current_ = nullptr;
        }
        update([](EngineState& s) { s.busy = false; });
    });
    return answer;
}

void Engine::do_answer(const AnswerRequest& request, Answer& answer) {
    Session& session = *loaded_->session;
    const Tokenizer& tokenizer = *loaded_->tokenizer;
    const ChatFormat& format = *loaded_->format;
    const Clock::time_point start = Clock::now();
    const int64_t room = std::min(request.max_tokens, std::max<int64_t>(1, session.context() / 4));
    const ChatPrompt prompt = make_chat_prompt(format, request.messages, session.context() - room, request.continue_last);
    if (int64_t(prompt.ids.size()) + room > session.context())
        fail(
            "the last message alone takes {} tokens, but the context has {}, of which {} are kept for the answer: send a shorter "
            "one, or load the model with a longer context",
            prompt.ids.size(), session.context(), room);
    if (prompt.ids.empty()) fail("the prompt is empty");
    session.set_sampler(resolve_sampling(request.sampling, loaded_->generation).parameters);

    const std::vector<int32_t>& held = session.tokens();
    size_t cached = 0;
    while (cached + 1 < held.size() && cached + 1 < prompt.ids.size() && held[cached] == prompt.ids[cached]) cached++;
    {
        std::lock_guard lock(answer.mutex_);
        answer.state_.stats.prompt_tokens = int64_t(prompt.ids.size());
        answer.state_.stats.cached_tokens = int64_t(cached);
        answer.state_.stats.device_bytes = state().memory.total();
        answer.state_.dropped = prompt.dropped;
    }
    // In pieces, so that it can be stopped and its progress shown: each goes on where the cache ends.
    int32_t first = 0;
    for (size_t end = cached; end < prompt.ids.size();) {
        end = std::min(prompt.ids.size(), end + size_t(loaded_->prefill_rows));
        first = session.prefill(std::span(prompt.ids).first(end));
        {
            std::lock_guard lock(answer.mutex_);
            answer.state_.prompt_progress = double(end) / double(prompt.ids.size());
        }
        changed_();
        if (answer.stopped()) break;
    }

    Utf8Stream stream;
    Clock::time_point first_at = Clock::now(), told = first_at;
    int64_t count = 0;
    Clock::time_point measured = first_at - std::chrono::hours(1);
    bool ended = false, measure = false;
    auto take = [&](int32_t id) {
        if (answer.stopped() || end_) return false;
        ended = std::find(format.ends.begin(), format.ends.end(), id) != format.ends.end();
        if (ended) return false;
        const std::string piece = stream.push(piece_text(tokenizer, id));
        count++;
        {
            std::lock_guard lock(answer.mutex_);
            Answer::State& s = answer.state_;
            if (count == 1)
                first_at = Clock::now(), s.stats.first_token_seconds = std::chrono::duration<double>(first_at - start).count();
            s.text += piece;
            s.stats.tokens = count;
            if (count > 1) s.stats.tokens_per_second = double(count - 1) / seconds_since(first_at);
        }
        if (seconds_since(told) >= tell_every) {
            told = Clock::now();
            changed_();
        }
        measure = live_ && seconds_since(measured) >= measure_every;
        return count < request.max_tokens && !measure;
    };
    bool more = take(first) || measure;
    while (more) {
        // A token that is measured is forgotten again: the answer goes on behind the last one that was taken.
        if (measure && count < request.max_tokens && int64_t(session.tokens().size()) < session.context()) profile_token();
        measured = measure ? Clock::now() : measured;
        measure = false;
        session.decode(request.max_tokens - count, take);
        more = measure && count < request.max_tokens && int64_t(session.tokens().size()) <= session.context();
    }
    std::lock_guard lock(answer.mutex_);
    answer.state_.text += stream.finish();
    answer.state_.stats.end = answer.stopped() ? "stopped" : ended ? "" : count >= request.max_tokens ? "length" : "context";
}

void Engine::profile_token() {
    auto result = std::make_shared<ModelProfile>();
    result->model = state().name;
    result->device = state().device;
    result->context = loaded_->session->context();
    result->position = int64_t(loaded_->session->tokens().size());
    result->live = true;
    result->decode = loaded_->session->profile_decode();
    std::lock_guard lock(mutex_);
    profile_ = result;
}

void Engine::profile() {
    post([this] {
        if (!loaded_) return;
        update([](EngineState& s) { s.busy = true, s.message = "measuring"; });
        std::string failed;
        try {
            do_profile();
        } catch (const std::exception& e) {
            failed = e.what();
        }
        update([&](EngineState& s) { s.busy = false, s.message = failed; });
    });
}

void Engine::do_profile() {
    auto result = std::make_shared<ModelProfile>();
    result->model = state().name;
    result->device = state().device;
    result->context = loaded_->session->context();
    result->prefill_tokens = std::min(loaded_->prefill_rows, result->context);
    // The first run of each warms it up.
    for (int run = 0; run < 2; run++) result->prefill = loaded_->session->profile_prefill();
    loaded_->session->pretend(std::min<int64_t>(result->context - 1, result->context / 2));
    for (int run = 0; run < 2; run++) result->decode = loaded_->session->profile_decode();
    result->position = int64_t(loaded_->session->tokens().size());
    loaded_->session->rewind(0);
    std::lock_guard lock(mutex_);
    profile_ = result;
}

}  // namespace vkqat
