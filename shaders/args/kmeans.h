#ifndef VKQAT_ARGS_KMEANS_H
#define VKQAT_ARGS_KMEANS_H
#include "args.h"
ARGS_BEGIN

// The k-means fit of trainer/kmeans.h, in the order of its nodes.

// Host-visible numbers of a fit, read when it runs.
struct KmeansScalars {
    float second_moment_correction;  // 1 / (1 - beta2^t); multiplies the second moment
    ARG_UINT seed;
    ARG_UINT warm_start;  // not 0: start from the centroids that are there, instead of k-means++
    ARG_UINT reserved;
};

// Sums over the rows of a weight: |w / s|, second moment, number of values that are not finite.
struct KmeansSumsArgs {
    ADDRESSES(4)
    ADDRESS weight;         // f32 [out, in]
    ADDRESS scales;         // f32 [blocks]
    ADDRESS second_moment;  // f32 [out, in], may be absent
    ADDRESS sums;           // f32 [out, 3]
    ARG_UINT out_rows, cols, block_rows, block_cols;
};

// Joins them: {mean |x| (1 if 0), 1 if all is finite, factor from second moment to weight, 0}.
struct KmeansHeaderArgs {
    ADDRESSES(3)
    ADDRESS sums;     // f32 [out, 3]
    ADDRESS scalars;  // KmeansScalars
    ADDRESS header;   // f32 [4]
    ARG_UINT out_rows, weighted;
    float elements;
};

struct KmeansClearArgs {
    ADDRESSES(3)
    ADDRESS counts, weights, sums;  // u32, i64, i64 [bins + 1]; weights may be absent
    ARG_UINT bins;
};

// Adds every value to its bin: count, weight (2^20 is 1), weighted sum of x (2^fraction_bits is mean |x|).
struct KmeansHistogramArgs {
    ADDRESSES(7)
    ADDRESS weight, scales, second_moment;  // as above
    ADDRESS header;
    ADDRESS counts, weights, sums;
    ARG_UINT out_rows, cols, block_rows, block_cols, bins, fraction_bits;
};

// Exclusive prefix sums of the bins in place, in three stages: 0 sums of chunks, 1 their prefix, 2 the bins' prefix.
struct KmeansPrefixArgs {
    ADDRESSES(4)
    ADDRESS counts, weights, sums;
    ADDRESS chunks;  // i64 [chunks + 1, 3]
    ARG_UINT bins, chunk_bins, chunk_count;
};

// Start and Lloyd iterations, one subgroup per restart.
struct KmeansLloydArgs {
    ADDRESSES(8)
    ADDRESS counts, weights, sums;  // prefix sums [bins + 1]
    ADDRESS header, scalars;
    ADDRESS centroids;   // f32 [levels], start if warm
    ADDRESS distances;   // f32 [restarts, points], scratch
    ADDRESS candidates;  // f32 [restarts, levels + 1]: the squared error, then the centroids
    ARG_UINT bins, points, levels, max_rounds;
    float count_limit;  // stop when at most so many assignments changed
    float sum_unit;     // mean |x| is 1: weighted sum = sums * sum_unit, weight = weights * weight_unit
    float weight_unit;
};

// The restart with the least error replaces the centroids, unless the data was not finite or without weight.
struct KmeansSelectArgs {
    ADDRESSES(3)
    ADDRESS candidates, header;
    ADDRESS centroids;
    ARG_UINT levels, restarts;
};

ARGS_END

#endif
