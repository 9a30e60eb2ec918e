#include "runtime/model/batch_session.h"

#include <algorithm>

namespace vkqat {
namespace {

constexpr size_t in_flight = 2;

// How many tokens of a prompt are held already; its last one must run in any case.
size_t shared(const std::vector<int32_t>& prompt, const std::vector<int32_t>& held) {
    size_t n = 0;
    while (n < held.size() && n + 1 < prompt.size() && held[n] == prompt[n]) n++;
    return n;
}

}  // namespace

BatchSession::BatchSession(const LlamaWeights& weights, const BatchOptions& o)
    : device_(weights.device()),
      sequences_(weights, {.count = o.slots, .context = o.context, .prefill_rows = o.prefill_rows, .cache = o.cache}),
      keep_prefix_(o.keep_prefix),
      at_once_(std::clamp<int64_t>(o.at_once, 1, 256)),
      slots_(size_t(o.slots)) {}

int64_t BatchSession::add(GenerationRequest request) {
    sequences_.check_prompt(request.prompt);
    check_sampler(request.sampler);
    if (request.max_tokens < 1) fail("a text of {} tokens was asked for; expected at least 1", request.max_tokens);
    line_.push_back({next_id_, std::move(request)});
    return next_id_++;
}

// What the token that has become known means for the slot.
void BatchSession::take_token(size_t at, int32_t token, std::vector<GenerationResult>& done) {
    Slot& slot = slots_[at];
    const GenerationRequest& request = slot.request;
    auto end = [&](Stop why) {
        slot.result.stop = why;
        slot.active = false;
        active_--;
        if (keep_prefix_) {  // the last token may not have run
            slot.held = request.prompt;
            if (!slot.result.tokens.empty())
                slot.held.insert(slot.held.end(), slot.result.tokens.begin(), slot.result.tokens.end() - 1);
        }
        sequences_.set_limit(int64_t(at), 0);  // tokens in flight are nobody's; the device soon leaves the slot out
        done.push_back(std::move(slot.result));
    };
    if (std::find(request.ends.begin(), request.ends.end(), token) != request.ends.end()) return end(Stop::end);
    slot.result.tokens.push_back(token);
    made_++;
    if (request.on_token && !request.on_token(token)) return end(Stop::caller);
    if (int64_t(slot.result.tokens.size()) >= request.max_tokens) return end(Stop::max_tokens);
    if (slot.position >= context()) return end(Stop::context);
}

// New prompts go into free slots while nothing is in flight: what the submissions before made is known then.
void BatchSession::fill_slots(std::vector<GenerationResult>& done) {
    if (line_.empty() || active_ == slots()) return;
    while (!submissions_.empty()) {
        Submission first = std::move(submissions_.front());
        submissions_.pop_front();
        take(std::move(first), done);
    }
    while (active_ < slots() && !line_.empty()) {
        Waiting next = std::move(line_.front());
        line_.pop_front();
        const auto length = int64_t(next.request.prompt.size());
        const size_t at = choose_slot(next.request.prompt);
        sequences_.set_sampler(int64_t(at), next.request.sampler);
        const auto cached = int64_t(shared(next.request.prompt, slots_[at].held));
        slots_[at].held.clear();  // if it fails, nothing is
        const int32_t token = sequences_.prefill(int64_t(at), next.request.prompt, cached);
        sequences_.set_limit(int64_t(at), length + next.request.max_tokens - 1);
        slots_[at] = {std::move(next.request), {.id = next.id}, length, {}, true};
        active_++;
        reused_ += cached;
        take_token(at, token, done);
    }
}

// The free slot that holds the most of the prompt's beginning, the first of equals.
size_t BatchSession::choose_slot(const std::vector<int32_t>& prompt) const {
    size_t best = slots_.size(), most = 0;
    for (size_t at = 0; at < slots_.size(); at++) {
        if (slots_[at].active) continue;
        const size_t kept = shared(prompt, slots_[at].held);
        if (best == slots_.size() || kept > most) best = at, most = kept;
    }
    return best;
}

void BatchSession::submit() {
    int64_t needed = 0;
    Submission s{0, 0, {}};
    for (const Slot& slot : slots_) {
        s.ids.push_back(slot.active ? slot.result.id : -1);
        if (!slot.active) continue;
        needed =
            std::max(needed, std::min(slot.request.max_tokens - int64_t(slot.result.tokens.size()), context() - slot.position));
    }
    for (const Submission& other : submissions_) needed -= other.steps;
    s.steps = std::min(needed, at_once_);
    if (s.steps <= 0) return;
    s.value = sequences_.decode(s.steps);
    submissions_.push_back(std::move(s));
}

void BatchSession::take(Submission s, std::vector<GenerationResult>& done) {
    device_.wait(s.value);
    for (int64_t step = 0; step < s.steps; step++)
        for (size_t at = 0; at < slots_.size(); at++) {
            Slot& slot = slots_[at];
            if (!slot.active || slot.result.id != s.ids[at]) continue;
            take_token(at, sequences_.generated(int64_t(at), slot.position++), done);
        }
}

std::vector<GenerationResult> BatchSession::step() {
    std::vector<GenerationResult> done;
    fill_slots(done);
    if (active_ == 0) {
        submissions_.clear();  // nobody's
        return done;
    }
    for (size_t before = SIZE_MAX; submissions_.size() < in_flight && submissions_.size() != before;) {
        before = submissions_.size();
        submit();
    }
    Submission first = std::move(submissions_.front());
    submissions_.pop_front();
    take(std::move(first), done);
    return done;
}

}  // namespace vkqat
