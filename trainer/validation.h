// The loss on held-out text during a training.
#pragma once

#include <cstdint>
#include <memory>

#include "trainer/training_step.h"

namespace vkqat {

struct ValidationLoss {
    double loss = 0;  // nats per token
    int64_t tokens = 0;
};

// Over as many windows as `tokens` fills (at least one, none twice), or over `max_batches` batches of `options` (0: all). The
// weights are those of the forward pass now: quantized, where the training is. Same options: same windows each time. The ranks
// share the batches, and all get the result.
ValidationLoss validation_loss(TrainingStep& training, const std::shared_ptr<const TokenCache>& tokens,
                               const BatchOptions& options, int64_t max_batches, Communicator& ranks);

}  // namespace vkqat
