// The project's own sample corpus: simple stories and short question-and-answer turns, made from a seed. It needs no download and
// no licence, and a model of a million parameters learns it in a few minutes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <random>
#include <string>

namespace vkqat {

// One story (some with a question about it behind), or one document of questions and answers: plain ASCII, no blank line in it.
std::string sample_story(std::mt19937_64& random);
std::string sample_questions(std::mt19937_64& random);

// Writes `folder`/train.txt and `folder`/valid.txt, together about `bytes` bytes, about 5 % of them in valid.txt; documents are
// separated by a blank line and all different. Same seed, same bytes, on every platform. The folder is created where it is
// missing; files of those names are replaced. Error: a disk that is full, fewer than 1000 bytes.
void write_sample_corpus(const std::filesystem::path& folder, uint64_t seed, uint64_t bytes = 1'000'000);

}  // namespace vkqat
