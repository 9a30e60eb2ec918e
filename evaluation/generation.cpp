#include "evaluation/generation.h"

#include <algorithm>
#include <chrono>

#include "evaluation/text.h"
#include "runtime/model/batch_session.h"
#include "runtime/support/error.h"
#include "runtime/text/regex.h"
#include "runtime/text/utf8.h"

namespace vkqat {
namespace {

// As gsm8k's answers are compared: without commas and $, without what stands in front of "#### ", without a full stop behind.
std::string bare_number(std::string text) {
    text = replace_all(replace_all(std::move(text), ",", ""), "$", "");
    if (size_t at = text.rfind("#### "); at != text.npos) text.erase(0, at + 5);
    if (text.ends_with(".\n")) text.erase(text.size() - 2, 1);
    if (text.ends_with('.')) text.pop_back();
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    return text;
}

// Where the first of `ends` begins; npos: nowhere.
size_t find_end(const std::string& text, const std::vector<std::string>& ends) {
    size_t first = text.npos;
    for (const std::string& end : ends)
        if (!end.empty()) first = std::min(first, text.find(end));
    return first;
}

}  // namespace

Answer judge(const Task& task, const Question& question, std::string text) {
    Answer answer{.text = utf8_lossy(text)};
    for (const AnswerPattern& p : task.patterns) {
        std::string found = answer.text;
        if (!p.pattern.empty()) {
            std::vector<TextRange> matches = Regex(p.pattern).find_all(answer.text);
            std::erase_if(matches, [](TextRange r) { return r.begin == r.end; });
            found = "[invalid]";
            if (!matches.empty()) {
                TextRange r = p.last ? matches.back() : matches.front();
                found = answer.text.substr(r.begin, r.end - r.begin);
            }
        }
        found = strip(found);
        answer.right.push_back(task.numeric ? bare_number(found) == bare_number(question.answer)
                                            : found == strip(question.answer));
        answer.found.push_back(std::move(found));
    }
    return answer;
}

GenerationWork answer_questions(const LlamaWeights& weights, const Tokenizer& tokenizer, const std::vector<int32_t>& end_ids,
                                const Task& task, std::vector<std::optional<Answer>>& answers,
                                const std::function<void(size_t question, const Answer& answer)>& done) {
    GenerationWork work;
    const int64_t allowed = weights.config().max_position_embeddings;
    if (task.max_tokens >= allowed)
        fail("{}: up to {} tokens are to be written, but the model allows {} positions", task.name, task.max_tokens, allowed);
    std::vector<std::vector<int32_t>> prompts(task.questions.size());
    int64_t context = 0, left = 0;
    for (size_t i = 0; i < task.questions.size(); i++) {
        if (answers[i]) continue;
        left++;
        std::vector<int32_t>& ids = prompts[i] = tokenizer.encode(task.questions[i].contexts[0], {.parse_special = true});
        const int64_t longest = allowed - task.max_tokens;
        if (int64_t(ids.size()) > longest) ids.erase(ids.begin(), ids.end() - longest);
        if (ids.empty()) fail("{}: row {}: the prompt is empty", task.file.string(), task.questions[i].row);
        context = std::max(context, int64_t(ids.size()) + task.max_tokens);
    }
    if (context == 0) return work;
    const bool cpu = weights.device().capabilities().kind == DeviceKind::cpu;
    const SessionOptions options = session_options(weights.device(), context);
    BatchSession batch(weights, {.slots = std::min<int64_t>(cpu ? 4 : 16, left),
                                 .context = context,
                                 .prefill_rows = options.prefill_rows,
                                 .cache = options.cache,
                                 .keep_prefix = true});
    const auto begin = std::chrono::steady_clock::now();
    std::vector<std::vector<int32_t>> written(prompts.size());
    std::vector<size_t> question;  // of each request
    for (size_t i = 0; i < prompts.size(); i++) {
        if (answers[i]) continue;
        work.prompt_tokens += int64_t(prompts[i].size());
        GenerationRequest request{.prompt = std::move(prompts[i]), .ends = end_ids, .max_tokens = task.max_tokens};
        request.on_token = [&tokenizer, &task, &ids = written[i]](int32_t id) {
            ids.push_back(id);
            return find_end(tokenizer.decode(ids), task.until) == std::string::npos;
        };
        batch.add(std::move(request));
        question.push_back(i);
    }
    while (batch.unfinished() > 0)
        for (const GenerationResult& result : batch.step()) {
            const size_t i = question[size_t(result.id)];
            std::string text = tokenizer.decode(result.tokens);
            work.tokens += int64_t(result.tokens.size());
            text.resize(std::min(text.size(), find_end(text, task.until)));
            answers[i] = judge(task, task.questions[i], text);
            if (done) done(i, *answers[i]);
        }
    work.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return work;
}

}  // namespace vkqat
