#include "trainer/validation.h"

#include <algorithm>

namespace vkqat {

ValidationLoss validation_loss(TrainingStep& training, const std::shared_ptr<const TokenCache>& tokens,
                               const BatchOptions& options, int64_t max_batches, Communicator& ranks) {
    const int64_t batch_size = options.batch_size, seq_len = options.seq_len;
    const auto windows = std::max<int64_t>(1, int64_t(WindowStream(tokens, options).windows_per_epoch()));
    int64_t batches = (windows + batch_size - 1) / batch_size;
    if (max_batches > 0) batches = std::min(batches, max_batches);
    BatchSource source(tokens, options);
    training.prepare();
    double nats = 0;
    int64_t labels = 0;
    for (int64_t i = 0; i < batches; i++) {
        Batch batch = source.next();
        if (i % ranks.size() != ranks.rank()) continue;
        // Windows behind the last one have been seen already.
        for (int64_t row = std::max<int64_t>(0, windows - i * batch_size); row < batch_size; row++)
            std::fill_n(batch.labels.begin() + row * seq_len, seq_len, no_label);
        auto [sum, count] = training.evaluate(batch);
        nats += sum;
        labels += count;
    }
    ranks.all_reduce_sum(std::span(&nats, 1));
    labels = ranks.sum(labels);
    return {nats / double(std::max<int64_t>(labels, 1)), labels};
}

}  // namespace vkqat
