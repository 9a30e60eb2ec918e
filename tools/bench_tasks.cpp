#include "tools/bench_tasks.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "evaluation/likelihood.h"
#include "evaluation/metrics.h"
#include "runtime/model/sequences.h"
#include "runtime/support/clock.h"
#include "tools/bench_report.h"
#include "tools/console.h"
#include "trainer/flavors.h"
#include "trainer/tokenizer_files.h"

namespace vkqat {

void bench_tasks(Device& device, const TaskBench& o, const std::function<void(const nlohmann::json&)>& add) {
    const Tokenizer tokenizer = load_tokenizer(o.tokenizer);
    TrainConfig config;
    config.model.flavor = o.flavor;
    const LlamaConfig c = model_config(config, int64_t(tokenizer.vocab_size()));
    const LlamaWeights weights(device, c, {.bits = o.bits == 16 ? 0 : int(o.bits)});
    device.wait_idle();
    for (const TaskRequest& request : find_tasks(o.tasks))
        for (const Task& task : load_tasks(request, {.limit = o.limit})) {
            if (task.kind == TaskKind::generation) fail("{}: written answers are not for this", task.name);
            ProgressLine progress;
            std::vector<std::optional<QuestionScore>> batched(task.questions.size());
            LikelihoodOptions options{.batch_tokens = o.batch_tokens};
            options.progress = [&](double done, double all) { progress.show(task.name, done, all); };
            auto start = Clock::now();
            const LikelihoodWork work = score_questions(weights, tokenizer, task, batched, options);
            const double together = seconds_since(start);

            // One by one: the choice behind its context, through a prompt's graph.
            std::vector<std::vector<TokenPair>> pairs;
            int64_t longest = 2, choices = 0;
            for (const Question& q : task.questions) {
                pairs.emplace_back();
                for (size_t i = 0; i < q.continuations.size(); i++) {
                    pairs.back().push_back(
                        encode_pair(tokenizer, q.contexts[i], q.continuations[i], c.max_position_embeddings - 1));
                    longest = std::max(longest, int64_t(pairs.back().back().ids.size()));
                    choices++;
                }
            }
            Sequences sequence(weights, {.count = 1, .context = longest + 1, .prefill_rows = std::min<int64_t>(longest, 512)});
            double done = 0, difference = 0;
            start = Clock::now();
            for (size_t n = 0; n < pairs.size(); n++) {
                progress.show(task.name + " one by one", ++done, double(pairs.size()));
                for (size_t i = 0; i < pairs[n].size(); i++) {
                    const TokenPair& pair = pairs[n][i];
                    const std::vector<float> nats = sequence.score(0, pair.ids);
                    double sum = 0;
                    for (size_t t = nats.size() - pair.predicted; t < nats.size(); t++) sum -= double(nats[t]);
                    difference = std::max(difference, std::abs(sum - batched[n]->log_likelihood[i]));
                }
            }
            const double alone = seconds_since(start);
            progress.clear();
            nlohmann::json r = timing(fmt::format("{}, {} at {} bits", task.name, o.flavor, o.bits), {together});
            r["questions"] = task.questions.size();
            r["choices"] = choices;
            r["tokens"] = work.tokens;
            r["computed_tokens"] = work.computed;
            r["seconds"] = together;
            r["seconds_on_device"] = work.seconds;
            r["one_by_one_seconds"] = alone;
            r["largest_difference"] = difference;
            r["weight_bytes"] = weights.bytes();
            r["text"] = fmt::format(
                "{} questions with {} choices: {:.2f} s, one by one {:.2f} s ({:.1f} times as long); {} tokens, of which {} "
                "are computed; log-likelihoods differ by {:.3g} nats at most (random weights)",
                task.questions.size(), choices, together, alone, alone / together, with_commas(work.tokens),
                with_commas(work.computed), difference);
            add(r);
        }
}

}  // namespace vkqat
