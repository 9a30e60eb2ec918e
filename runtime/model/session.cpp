#include "runtime/model/session.h"

#include <algorithm>
#include <deque>

namespace vkqat {
namespace {

// Submissions that may be in flight: the GPU starts the next one while the host looks at the last.
constexpr int64_t in_flight = 4;

}  // namespace

Session::Session(const LlamaWeights& weights, const SessionOptions& options)
    : device_(weights.device()), sequence_(weights, sequences_options(options)) {}

void Session::rewind(int64_t length) {
    if (length < 0 || length > int64_t(tokens_.size())) fail("rewind to {} of {} tokens", length, tokens_.size());
    tokens_.resize(size_t(length));
    sequence_.resume(0, tokens_);
}

int32_t Session::prefill(std::span<const int32_t> prompt) {
    sequence_.check_prompt(prompt);
    // The last token in tokens_ is not in the cache; and the last token of the prompt must run for its logits.
    size_t cached = tokens_.empty() ? 0 : tokens_.size() - 1, kept = 0;
    while (kept < cached && kept + 1 < prompt.size() && tokens_[kept] == prompt[kept]) kept++;
    tokens_.clear();  // if it fails, nothing is cached
    const int32_t token = sequence_.prefill(0, prompt, int64_t(kept));
    tokens_.assign(prompt.begin(), prompt.end());
    tokens_.push_back(token);
    return token;
}

int64_t Session::decode(int64_t count, const std::function<bool(int32_t)>& next, int64_t at_once) {
    if (tokens_.empty()) fail("decode: there is no prompt yet");
    const auto first = int64_t(tokens_.size()) - 1;  // position of the next token to run
    count = std::min(count, context() - first);
    at_once = std::max<int64_t>(at_once, 1);
    struct Submission {
        uint64_t value;
        int64_t end;  // tokens made by it and those before
    };
    std::deque<Submission> submissions;
    int64_t made = 0, handed = 0;
    bool go_on = true;
    while (handed < count && go_on) {
        while (made < count && int64_t(submissions.size()) < (at_once > 1 ? in_flight / 2 : in_flight)) {
            const int64_t steps = std::min(at_once, count - made);
            made += steps;
            submissions.push_back({sequence_.decode(steps), made});
        }
        device_.wait(submissions.front().value);
        for (; handed < submissions.front().end && go_on; handed++) {
            tokens_.push_back(sequence_.generated(0, first + handed));
            go_on = next(tokens_.back());
        }
        submissions.pop_front();
    }
    if (made > handed) {  // tokens made in advance are forgotten; the last one handed over is fed next
        device_.wait_idle();
        sequence_.resume(0, tokens_);
    }
    return handed;
}

void Session::pretend(int64_t length) {
    if (length < 0 || length >= context()) fail("pretend: {} positions of a context of {}", length, context());
    tokens_.assign(size_t(length) + 1, 0);
    sequence_.resume(0, tokens_);
}

std::vector<ProfileRow> Session::profile_prefill() {
    pretend(0);
    auto rows = sequence_.profile_prefill();
    pretend(0);
    return rows;
}

std::vector<ProfileRow> Session::profile_decode() {
    if (tokens_.empty()) fail("profile: there is no prompt yet");
    auto rows = sequence_.profile_decode();
    sequence_.resume(0, tokens_);
    return rows;
}

double Session::decode_bytes() const { return sequence_.decode_bytes(); }

}  // namespace vkqat
