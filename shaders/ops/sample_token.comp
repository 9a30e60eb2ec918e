#version 460
//! variant sample_token
// Draws the token of a row: one workgroup of whole subgroups. top-k and top-p are found by radix selection over the ordered bits of the
// scores (11, 11, 10 bits), the first by counts, the second by probabilities in units of 2^-31 of the mass within top-k; as all
// of these are integers, no sum depends on an order. Among equal scores the lower id is the larger. The draw takes the first id
// (in the order of ids) at which the sum of the kept probabilities exceeds random * total.
// The random number: word 0 of Philox4x32-10 (Salmon et al., SC 2011) with the seed as key and the token's position as counter.
#include "ops/sample.glsl"
layout(constant_id = 1) const uint SUBGROUPS = 1;  // at most 256
layout(constant_id = 2) const bool SEEN = false;
layout(constant_id = 3) const bool GENERATED = false;
layout(constant_id = 4) const bool COUNTED = false;
layout(constant_id = 6) const bool LIMITED = false;
layout(constant_id = 5) const uint AHEAD = 8;  // loads in flight: one workgroup hides the latency of memory by itself
layout(push_constant, scalar) uniform Push { SampleTokenArgs a; };

const uint BINS = 2048;
const uint WIDTH = gl_WorkGroupSize.x;
shared uint bins[BINS];
shared uint slices[SUBGROUPS];
shared float sums[SUBGROUPS];

uint lane, lanes, subgroup;
#define SCORES (a.scores + uint64_t(gl_WorkGroupID.x) * a.vocab * 4)  // of the row

// Which tokens are left: a score above `key`, or equal and an id below `ids`; and at least `bound`.
struct Kept {
    uint key, ids;
    float bound;
};
bool is_kept(Kept kept, uint id, float x) {
    const uint key = order_key(x);
    return (key > kept.key || (key == kept.key && id < kept.ids)) && x >= kept.bound;
}

void clear_bins() {
    barrier();
    for (uint i = subgroup * lanes + lane; i < BINS; i += WIDTH) bins[i] = 0;
    barrier();
}

// Within cells begin .. end - 1 of `bins` or `slices`, the first with a running sum above `target`; target -= the sum before it.
uint scan(bool of_bins, uint begin, uint end, inout uint target) {
    uint at = begin;
    for (; at < end; at += lanes) {
        uint x = 0;
        if (at + lane < end) {
            if (of_bins) x = bins[at + lane];
            else x = slices[at + lane];
        }
        const uint running = subgroupInclusiveAdd(x);
        const uvec4 above = subgroupBallot(running > target);
        if (above != uvec4(0)) {
            const uint which = subgroupBallotFindLSB(above);
            target -= subgroupShuffle(running - x, which);
            return at + which;
        }
        target -= subgroupShuffle(running, lanes - 1);
    }
    return end - 1;  // only if target is not below the total
}

// The first bin with a running sum above `target`; target -= the sum before it. All invocations get the result.
uint find_bin(inout uint target) {
    const uint slice = BINS / SUBGROUPS;
    barrier();
    uint sum = 0;
    for (uint i = lane; i < slice; i += lanes) sum += bins[subgroup * slice + i];
    sum = subgroupAdd(sum);
    if (lane == 0) slices[subgroup] = sum;
    barrier();
    const uint s = scan(false, 0, SUBGROUPS, target);
    return scan(true, s * slice, (s + 1) * slice, target);
}

uint total_of_bins() {
    barrier();
    uint sum = 0;
    const uint slice = BINS / SUBGROUPS;
    for (uint i = lane; i < slice; i += lanes) sum += bins[subgroup * slice + i];
    sum = subgroupAdd(sum);
    if (lane == 0) slices[subgroup] = sum;
    barrier();
    uint total = 0;
    for (uint i = 0; i < SUBGROUPS; ++i) total += slices[i];
    return total;
}

// What a token adds: one, or its probability in units.
uint amount(bool probabilities, float x, float top, float units) {
    precise float probability = exp(x - top) * units;  // precise: the same bits wherever it is computed
    probability = probability + 0.5;
    return probabilities ? uint(probability) : 1u;
}

// Sums of what the kept tokens add, by blocks of consecutive ids, in `bins`; -> ids of a block.
uint sum_blocks(Kept kept, bool probabilities, bool only_equal, float top, float units) {
    const uint block = (a.vocab + BINS - 1) / BINS;
    clear_bins();
    for (uint b = subgroup; b < BINS; b += SUBGROUPS * AHEAD) {
        uint sum[AHEAD];
        [[unroll]] for (uint j = 0; j < AHEAD; ++j) sum[j] = 0;
        for (uint i = lane; i < block; i += lanes) {
            float x[AHEAD];
            [[unroll]] for (uint j = 0; j < AHEAD; ++j) x[j] = F32(SCORES).v[min((b + j * SUBGROUPS) * block + i, a.vocab - 1)];
            [[unroll]] for (uint j = 0; j < AHEAD; ++j) {
                const uint id = (b + j * SUBGROUPS) * block + i;
                const bool counts = id < a.vocab && is_kept(kept, id, x[j]) && (!only_equal || order_key(x[j]) == kept.key);
                if (counts) sum[j] += amount(probabilities, x[j], top, units);
            }
        }
        [[unroll]] for (uint j = 0; j < AHEAD; ++j) {
            const uint all = subgroupAdd(sum[j]);
            if (lane == 0 && b + j * SUBGROUPS < BINS) bins[b + j * SUBGROUPS] = all;
        }
    }
    return block;
}

// The id at which the running sum, in the order of ids, exceeds `target`; after sum_blocks.
uint find_id(Kept kept, bool probabilities, bool only_equal, float top, float units, uint block, uint target) {
    const uint b = find_bin(target);
    uint result = min((b + 1) * block, a.vocab) - 1;
    for (uint at = b * block; at < min((b + 1) * block, a.vocab); at += lanes) {
        uint x = 0;
        if (at + lane < min((b + 1) * block, a.vocab)) {
            const float score = F32(SCORES).v[at + lane];
            if (is_kept(kept, at + lane, score) && (!only_equal || order_key(score) == kept.key))
                x = amount(probabilities, score, top, units);
        }
        const uint running = subgroupInclusiveAdd(x);
        const uvec4 above = subgroupBallot(running > target);
        if (above != uvec4(0)) {
            result = at + subgroupBallotFindLSB(above);
            break;
        }
        target -= subgroupShuffle(running, lanes - 1);
    }
    return result;
}

// Narrows `kept` to the largest scores whose amounts reach a goal: `goal` tokens, or the share `goal` * 2^-32 of the probability.
Kept select(Kept kept, bool probabilities, uint goal, float top, float units) {
    uint prefix = 0, target = goal - 1, equal = 0;
    [[dont_unroll]] for (uint level = 0; level < 3; ++level) {
        const uint shift = level == 0 ? 21 : level == 1 ? 10 : 0;
        const uint mask = level == 2 ? 1023u : 2047u;
        clear_bins();
        for (uint at = subgroup * lanes + lane; at < a.vocab; at += WIDTH * AHEAD) {
            float x[AHEAD];
            [[unroll]] for (uint j = 0; j < AHEAD; ++j) x[j] = F32(SCORES).v[min(at + j * WIDTH, a.vocab - 1)];
            [[unroll]] for (uint j = 0; j < AHEAD; ++j) {
                const uint id = at + j * WIDTH, key = order_key(x[j]);
                const bool within = level == 0 || (key ^ prefix) >> (level == 1 ? 21 : 10) == 0;
                if (id < a.vocab && within && is_kept(kept, id, x[j])) {
                    const uint add = amount(probabilities, x[j], top, units);
                    if (add != 0) atomicAdd(bins[mask - ((key >> shift) & mask)], add);  // the largest first
                }
            }
        }
        if (level == 0 && probabilities) {
            uint high, low;
            umulExtended(goal, total_of_bins(), high, low);
            target = max(high + (low != 0 ? 1u : 0u), 1u) - 1;
        }
        const uint bin = find_bin(target);
        prefix |= (mask - bin) << shift;
        equal = bins[bin];
    }
    // Of the scores equal to the last one taken, those with the lowest ids.
    const uint each = max(amount(probabilities, from_order_key(prefix), top, units), 1u);
    const uint rank = target / each;
    if (prefix > kept.key) kept.ids = a.vocab;
    kept.key = prefix;
    if (rank + 1 >= equal / each) return kept;
    const uint block = sum_blocks(kept, false, true, top, units);
    kept.ids = find_id(kept, false, true, top, units, block, rank) + 1;
    return kept;
}

uint philox(uvec2 key, uint counter) {
    uvec4 x = uvec4(counter, 0, 0, 0);
    [[unroll]] for (uint round = 0; round < 10; ++round) {
        uint high0, low0, high1, low1;
        umulExtended(0xD2511F53u, x.x, high0, low0);
        umulExtended(0xCD9E8D57u, x.z, high1, low1);
        x = uvec4(high1 ^ x.y ^ key.x, low1, high0 ^ x.w ^ key.y, low0);
        key += uvec2(0x9E3779B9u, 0xBB67AE85u);
    }
    return x.x;
}

void main() {
    lane = gl_SubgroupInvocationID;
    lanes = gl_SubgroupSize;
    subgroup = gl_SubgroupID;
    const uint row = gl_WorkGroupID.x;
    const uint64_t best = a.best + row * a.groups * 8, generated = a.generated + uint64_t(row) * a.capacity * 4;
    const uint64_t seen = a.seen + uint64_t(row) * a.vocab * 4;
    const SamplerParameters p = Parameters(a.parameters + row * SAMPLER_BYTES).p;
    const uint before = U32(a.position).v[row];
    uint last = 0;  // rows of this step behind the first
    if (COUNTED) last = max(U32(a.count).v[0], 1u) - 1;
    const uint position = before + last;

    uint limit = ~0u;
    if (LIMITED) limit = U32(a.limits).v[row];

    // The largest score, ties to the lowest id: every subgroup for itself. Before the limit is known, which is the host's.
    uint best_key = 0, best_id = ~0u;
    for (uint first = lane; first < a.groups; first += lanes * AHEAD) {
        uvec2 of_group[AHEAD];
        [[unroll]] for (uint j = 0; j < AHEAD; ++j) of_group[j] = U32x2(best).v[min(first + j * lanes, a.groups - 1)];
        [[unroll]] for (uint j = 0; j < AHEAD; ++j)
            if (of_group[j].x > best_key) {  // ids rise: the first of equals stays, also of the last one again
                best_key = of_group[j].x;
                best_id = of_group[j].y;
            }
    }
    if (LIMITED) {
        if (before >= limit) {  // the same for the whole workgroup
            barrier();
            if (lane == 0 && subgroup == 0) U32(a.position).v[row] = ~0u;
            return;
        }
    }
    const uint top_key = subgroupMax(best_key);
    uint token = subgroupMin(best_key == top_key ? best_id : ~0u);

    if (p.greedy == 0 && p.temperature > 0) {
        const float top = from_order_key(top_key);
        Kept kept = Kept(0, a.vocab, -3.4e38);
        if (p.top_k > 0 && p.top_k < a.vocab) kept = select(kept, false, p.top_k, top, 0);
        // Units of probability: 2^-31 of the mass that is left.
        float sum = 0;
        for (uint at = subgroup * lanes + lane; at < a.vocab; at += WIDTH * AHEAD) {
            float x[AHEAD];
            [[unroll]] for (uint j = 0; j < AHEAD; ++j) x[j] = F32(SCORES).v[min(at + j * WIDTH, a.vocab - 1)];
            [[unroll]] for (uint j = 0; j < AHEAD; ++j)
                if (at + j * WIDTH < a.vocab && is_kept(kept, at + j * WIDTH, x[j])) sum += exp(x[j] - top);
        }
        sum = subgroupAdd(sum);
        if (lane == 0) sums[subgroup] = sum;
        barrier();
        sum = 0;
        for (uint i = 0; i < SUBGROUPS; ++i) sum += sums[i];
        const float units = 2147483648.0 / sum;
        if (p.top_p < 1) kept = select(kept, true, uint(max(p.top_p, 0.0) * 4294967296.0), top, units);
        if (p.min_p > 0) kept.bound = min(top + log(p.min_p), top);
        const uint block = sum_blocks(kept, true, false, top, units);
        uint target, low;
        umulExtended(philox(uvec2(p.seed_low, p.seed_high), position), total_of_bins(), target, low);
        token = find_id(kept, true, false, top, units, block, target);
    }
    memoryBarrier();
    barrier();  // all have read the position
    if (lane == 0 && subgroup == 0) {
        I32(a.token).v[row] = int(token);
        if (GENERATED) I32(generated).v[position % a.capacity] = int(token);
        if (SEEN) U32(seen).v[token] = 1;
        U32(a.position).v[row] = position + 1;
    }
}
