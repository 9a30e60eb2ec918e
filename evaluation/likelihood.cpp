#include "evaluation/likelihood.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <map>
#include <mutex>
#include <thread>

#include "evaluation/text.h"
#include "runtime/support/error.h"

namespace vkqat {
namespace {

using Ids = std::vector<int32_t>;

constexpr size_t worth_sharing = 32;  // tokens that questions begin with alike (worked examples)

size_t common(const Ids& a, const Ids& b, size_t most) {
    return size_t(std::mismatch(a.begin(), a.begin() + ptrdiff_t(std::min({a.size(), b.size(), most})), b.begin()).first -
                  a.begin());
}

Ids encode(const Tokenizer& tokenizer, const std::string& text) {
    EncodeOptions options{.parse_special = true};
    if (tokenizer.bos() && !tokenizer.token(*tokenizer.bos()).empty() && text.starts_with(tokenizer.token(*tokenizer.bos())))
        options.add_bos = false;
    return tokenizer.encode(text, options);
}

// Sequences of one or more questions that begin alike.
struct Group {
    struct Member {
        size_t question;
        std::vector<size_t> sequence;  // by choice
    };
    std::vector<Ids> sequences;  // what the model reads, all different
    std::vector<Member> members;
    size_t shared = 0;
    int64_t rows = 0;

    int64_t tokens() const {
        int64_t sum = int64_t(shared);
        for (const Ids& ids : sequences) sum += int64_t(ids.size() - shared);
        return sum;
    }
};

// In parallel: `work(i)` for i below `count`. The first error is thrown.
void for_each_index(size_t count, const std::function<void(size_t)>& work) {
    std::atomic<size_t> next = 0;
    std::exception_ptr error;
    std::mutex mutex;
    auto run = [&] {
        for (size_t i; (i = next++) < count;) {
            try {
                work(i);
            } catch (...) {
                std::lock_guard lock(mutex);
                if (!error) error = std::current_exception();
                next = count;
            }
        }
    };
    std::vector<std::thread> threads;
    for (unsigned i = 1; i < std::min<size_t>(std::max(1u, std::thread::hardware_concurrency()), count / 16 + 1); i++)
        threads.emplace_back(run);
    run();
    for (std::thread& thread : threads) thread.join();
    if (error) std::rethrow_exception(error);
}

// One question as groups: one, unless its sequences do not even begin alike.
std::vector<Group> groups_of(size_t question, const std::vector<TokenPair>& pairs) {
    std::vector<Group> groups;
    for (size_t i = 0; i < pairs.size(); i++) {
        Ids input(pairs[i].ids.begin(), pairs[i].ids.end() - 1);
        auto fits = std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return g.sequences[0][0] == input[0]; });
        if (fits == groups.end()) {
            groups.push_back({.shared = input.size()});
            groups.back().members.push_back({question, std::vector<size_t>(pairs.size(), SIZE_MAX)});
            fits = groups.end() - 1;
        } else {
            fits->shared = common(fits->sequences[0], input, fits->shared);
        }
        auto same = std::find(fits->sequences.begin(), fits->sequences.end(), input);
        fits->members[0].sequence[i] = size_t(same - fits->sequences.begin());
        if (same == fits->sequences.end()) fits->sequences.push_back(std::move(input));
        fits->rows += int64_t(pairs[i].predicted);
    }
    return groups;
}

// Questions of one sequence each that begin alike (behind worked examples, with choices of one token) go together.
std::vector<Group> merge(std::vector<Group> groups, int64_t capacity) {
    std::vector<Group> merged;
    for (Group& group : groups) {
        if (!merged.empty() && group.sequences.size() == 1) {
            Group& last = merged.back();
            const size_t shared = common(last.sequences[0], group.sequences[0], last.shared);
            const bool open = last.members.size() > 1 || last.sequences.size() == 1;
            int64_t tokens = int64_t(group.sequences[0].size());
            for (const Ids& ids : last.sequences) tokens += int64_t(ids.size() - shared);
            if (open && shared >= worth_sharing && 2 * shared >= group.sequences[0].size() && tokens <= capacity) {
                last.shared = shared;
                for (size_t& at : group.members[0].sequence)
                    if (at != SIZE_MAX) at = last.sequences.size();
                last.sequences.push_back(std::move(group.sequences[0]));
                last.members.push_back(std::move(group.members[0]));
                last.rows += group.rows;
                continue;
            }
        }
        merged.push_back(std::move(group));
    }
    return merged;
}

}  // namespace

TokenPair encode_pair(const Tokenizer& tokenizer, std::string context, std::string continuation, int64_t longest) {
    TokenPair pair;
    Ids whole;
    size_t front;
    if (context.empty()) {
        std::optional<TokenId> start = tokenizer.bos() ? tokenizer.bos() : tokenizer.eos();
        if (!start) fail("the context is empty, and the tokenizer has neither a start nor an end token to begin with");
        whole = tokenizer.encode(continuation, {.add_bos = false, .parse_special = true});
        if (whole.empty() || whole[0] != *start) whole.insert(whole.begin(), *start);
        front = 1;
    } else {
        const size_t spaces = trailing_white_space(context);
        continuation.insert(0, context.substr(context.size() - spaces));
        context.resize(context.size() - spaces);
        whole = encode(tokenizer, context + continuation);
        Ids alone = encode(tokenizer, context);
        front = alone.size();
        std::copy_n(alone.begin(), std::min(front, whole.size()), whole.begin());
    }
    if (front == 0) fail("the context has no token, and the tokenizer no start token to begin with");
    if (whole.size() <= front) fail("the continuation has no token of its own to be scored");
    pair.predicted = whole.size() - front;
    if (int64_t(pair.predicted) > longest)
        fail("a continuation of {} tokens; the model reads at most {}", pair.predicted, longest);
    if (int64_t(whole.size()) > longest + 1) whole.erase(whole.begin(), whole.end() - longest - 1);
    pair.ids = std::move(whole);
    return pair;
}

LikelihoodWork score_questions(const LlamaWeights& weights, const Tokenizer& tokenizer, const Task& task,
                               std::vector<std::optional<QuestionScore>>& scores, const LikelihoodOptions& options) {
    const bool cpu = weights.device().capabilities().kind == DeviceKind::cpu;
    const int64_t longest = weights.config().max_position_embeddings;
    int64_t capacity = options.batch_tokens ? options.batch_tokens : cpu ? 256 : 4096;
    LikelihoodWork work;

    std::vector<size_t> open;
    for (size_t i = 0; i < task.questions.size(); i++)
        if (!scores[i]) open.push_back(i);
    std::vector<std::vector<TokenPair>> pairs(task.questions.size());
    for_each_index(open.size(), [&](size_t i) {
        const Question& q = task.questions[open[i]];
        in_context(fmt::format("{}: row {}", task.file.string(), q.row), [&] {
            for (size_t n = 0; n < q.continuations.size(); n++)
                pairs[open[i]].push_back(encode_pair(tokenizer, q.contexts[n], q.continuations[n], longest));
        });
    });
    std::vector<Group> groups;
    for (size_t i : open) {
        for (Group& group : groups_of(i, pairs[i])) groups.push_back(std::move(group));
        for (const TokenPair& pair : pairs[i]) work.tokens += int64_t(pair.ids.size()) - 1;
    }
    if (groups.empty()) return work;
    groups = merge(std::move(groups), capacity);

    // Longest first, each into the first row that has room: all rows but the last are nearly full.
    std::stable_sort(groups.begin(), groups.end(), [](auto& a, auto& b) { return a.tokens() > b.tokens(); });
    capacity = std::max(capacity, groups[0].tokens());
    struct Window {
        std::vector<size_t> groups;
        int64_t tokens = 0, rows = 0;
    };
    std::vector<Window> windows;
    size_t first_open = 0;
    for (size_t i = 0; i < groups.size(); i++) {
        const int64_t tokens = groups[i].tokens();
        while (first_open < windows.size() && windows[first_open].tokens + 4 > capacity) first_open++;
        size_t at = first_open;
        while (at < windows.size() && windows[at].tokens + tokens > capacity) at++;
        if (at == windows.size()) windows.emplace_back();
        windows[at].groups.push_back(i);
        windows[at].tokens += tokens;
        windows[at].rows += groups[i].rows;
        work.computed += tokens;
    }
    int64_t tokens = 0, rows = 0;
    for (const Window& w : windows) {
        tokens = std::max(tokens, w.tokens);
        rows = std::max(rows, w.rows);
    }
    tokens = (tokens + 63) / 64 * 64;
    PackedScorer scorer(weights, tokens, rows);

    std::vector<size_t> missing(task.questions.size());  // choices of a question that are not scored yet
    for (size_t i : open) {
        missing[i] = pairs[i].size();
        scores[i] = QuestionScore{std::vector<double>(pairs[i].size()), std::vector<bool>(pairs[i].size())};
    }
    double done = 0;
    for (const Window& window : windows) {
        if (options.progress) options.progress(done, double(work.computed));
        std::vector<SharedSequences> packed;
        std::vector<ScoredToken> wanted;
        for (size_t g : window.groups) {
            const Group& group = groups[g];
            SharedSequences shared{Ids(group.sequences[0].begin(), group.sequences[0].begin() + ptrdiff_t(group.shared)), {}};
            for (const Ids& ids : group.sequences) shared.rest.emplace_back(ids.begin() + ptrdiff_t(group.shared), ids.end());
            for (const Group::Member& member : group.members)
                for (size_t n = 0; n < member.sequence.size(); n++) {
                    if (member.sequence[n] == SIZE_MAX) continue;
                    const TokenPair& pair = pairs[member.question][n];
                    for (size_t at = pair.ids.size() - pair.predicted; at < pair.ids.size(); at++)
                        wanted.push_back({int32_t(packed.size()), int32_t(member.sequence[n]), int32_t(at) - 1, pair.ids[at]});
                }
            packed.push_back(std::move(shared));
        }
        const auto begin = std::chrono::steady_clock::now();
        std::vector<TokenScore> found = scorer.score(packed, wanted);
        work.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        size_t next = 0;
        for (size_t g : window.groups)
            for (const Group::Member& member : groups[g].members)
                for (size_t n = 0; n < member.sequence.size(); n++) {
                    if (member.sequence[n] == SIZE_MAX) continue;
                    const TokenPair& pair = pairs[member.question][n];
                    double sum = 0;
                    bool greedy = true;
                    for (size_t i = 0; i < pair.predicted; i++, next++) {
                        sum -= double(found[next].nll);
                        greedy = greedy && found[next].best == wanted[next].label;
                    }
                    QuestionScore& score = *scores[member.question];
                    score.log_likelihood[n] = sum;
                    score.greedy[n] = greedy;
                    if (--missing[member.question] == 0 && options.done) options.done(member.question, score);
                }
        done += double(window.tokens);
    }
    return work;
}

}  // namespace vkqat
