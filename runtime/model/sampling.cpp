#include "runtime/model/sampling.h"

#include <algorithm>
#include <random>

namespace vkqat {

Sampling resolve_sampling(const SamplingChoice& choice, const GenerationConfig& generation) {
    const auto& [greedy, temperature, top_p, min_p, repetition_penalty, top_k, seed] = choice;
    SamplerParameters p = greedy_parameters();
    uint64_t chosen_seed = seed.value_or(std::random_device{}());
    bool own_choice = temperature || top_k || top_p || min_p;
    bool is_greedy = greedy || (generation.do_sample == false && !own_choice);
    bool model_says = generation.temperature || generation.top_k || generation.top_p || generation.min_p;
    if (top_k && (*top_k < 0 || *top_k > INT32_MAX)) fail("top-k {}: expected 0 or more", *top_k);

    p.repetition_penalty = float(repetition_penalty.value_or(generation.repetition_penalty.value_or(1)));
    if (!is_greedy) {
        p.greedy = 0;
        p.temperature = float(temperature.value_or(generation.temperature.value_or(model_says ? 1.0 : 0.7)));
        p.top_k = uint32_t(top_k.value_or(std::clamp<int64_t>(generation.top_k.value_or(0), 0, INT32_MAX)));
        p.top_p = float(top_p.value_or(generation.top_p.value_or(model_says ? 1.0 : 0.95)));
        p.min_p = float(min_p.value_or(generation.min_p.value_or(0)));
        p.seed_low = uint32_t(chosen_seed);
        p.seed_high = uint32_t(chosen_seed >> 32);
    }
    check_sampler(p);
    std::string text = is_greedy || p.temperature == 0 ? "greedy" : fmt::format("temperature {:.4g}", p.temperature);
    if (p.greedy == 0 && p.temperature > 0) {
        if (p.top_k > 0) text += fmt::format(", top-k {}", p.top_k);
        if (p.top_p < 1) text += fmt::format(", top-p {:.4g}", p.top_p);
        if (p.min_p > 0) text += fmt::format(", min-p {:.4g}", p.min_p);
        text += fmt::format(", seed {}", chosen_seed);
    }
    if (p.repetition_penalty != 1) text += fmt::format(", repetition penalty {:.4g}", p.repetition_penalty);
    return {p, chosen_seed, text};
}

}  // namespace vkqat
