#include "tools/speed.h"

#include <algorithm>

#include "runtime/model/session.h"
#include "tools/console.h"

namespace vkqat {

Speed measure_speed(const LlamaWeights& weights) {
    const LlamaConfig& c = weights.config();
    const int64_t context = std::min<int64_t>(c.max_position_embeddings, 1024), warm_up = 4;
    Speed speed{.prompt = std::min<int64_t>(512, context / 2)};
    const int64_t count = std::min<int64_t>(256, context - speed.prompt - warm_up - 1);
    if (speed.prompt < 1 || count < 1) return {};
    Session session(weights, session_options(weights.device(), speed.prompt + warm_up + count + 1));
    speed.memory_bytes = session.cache_bytes() + session.workspace_bytes();
    std::vector<int32_t> prompt(static_cast<size_t>(speed.prompt));
    for (size_t i = 0; i < prompt.size(); i++) prompt[i] = int32_t(int64_t(i * 7 + 1) % c.vocab_size);
    for (int round = 0; round < 3; round++) {
        session.rewind(0);
        Stopwatch time;
        session.prefill(prompt);
        if (round == 0 || time.seconds() < speed.first_token_seconds) speed.first_token_seconds = time.seconds();
    }
    session.decode(warm_up, [](int32_t) { return true; });
    Stopwatch time;
    int64_t decoded = session.decode(count, [&](int32_t) { return time.seconds() < 3; });
    speed.decode_rate = double(decoded) / time.seconds();
    return speed;
}

}  // namespace vkqat
