// The attention of packed_layers.comp: one token, whose q, k and v workgroups find in what was handed on, over a cache of fp16 or bf16.
// The context is cut into parts; a workgroup takes one part for one head: several heads for each key that is read would need so many
// registers that weights on their way have to leave theirs (docs/rejected.md), and long contexts have a kernel of their own
// (decode_attention.comp). A key's row lies across SPLIT lanes of a subgroup, which has SLOTS * KEYS of them at once. Where there are
// several parts, other workgroups join them.
// Behind handed_on.glsl, decode_attention_cache.glsl, packed_runs.glsl (shared memory: POOL_WORD) and these constants of the shader:
// HEAD_DIM (a power of two, a multiple of SUBGROUP, 16 to 256), PARTS (at most), SHORTEST (keys of a part, at least), KEYS, Q_ROWS,
// KV_ROWS.
#include "ops/dot_add.glsl"
const uint ROW_PIECES = HEAD_DIM / 8, SPLIT = ROW_PIECES < SUBGROUP ? ROW_PIECES : SUBGROUP;
const uint PIECES = ROW_PIECES / SPLIT, SLOTS = SUBGROUP / SPLIT, HALF = HEAD_DIM / 2;
const uint Q_HEADS = Q_ROWS / HEAD_DIM, SHARED_BY = Q_ROWS / KV_ROWS;  // heads that share keys
const uint TOPS_AT = 0, TOTALS_AT = TEAM, ACC_AT = 2 * TEAM;
const float LOWEST = -1e30;

layout(buffer_reference, scalar, buffer_reference_align = 8) buffer Angles { vec2 v[]; };
shared vec4 shared_q[HEAD_DIM / 4];
shared uvec4 new_pieces[2 * ROW_PIECES];  // the token's key and value, as the cache has them

#ifdef CACHE_f16
uint two_of_cache(vec2 x) { return packFloat2x16(f16vec2(x)); }
#else
uint two_of_cache(vec2 x) { return pack_bf16(x); }
#endif

// Rotates what is handed on of q and k; q times the scale, k and v rounded as in the cache, all to shared memory.
void take_q_k_v(uint64_t qkv, uint64_t angles, uint head, uint kv_head) {
    [[dont_unroll]] for (uint i = id; i < 3 * (HALF / 2); i += WIDTH) {
        const uint which = i / (HALF / 2), d = i % (HALF / 2) * 2;
        const uint row = which == 0 ? head * HEAD_DIM : Q_ROWS + (which - 1) * KV_ROWS + kv_head * HEAD_DIM;
        uvec2 low, high;
        do {
            low = Handed2(qkv).v[(row + d) / 2];
            high = Handed2(qkv).v[(row + HALF + d) / 2];
        } while (missing(uvec4(low, high)) && look_again());
        vec2 x = uintBitsToFloat(low), y = uintBitsToFloat(high);
        if (which < 2) {
            const vec2 c = Angles(angles).v[d / 2], s = Angles(angles).v[(d + HALF) / 2], rotated = x * c - y * s;
            y = y * c + x * s;
            x = rotated;
        }
        if (which == 0) {
            UNROLL for (uint e = 0; e < 2; e++) {
                shared_q[d / 4][d % 4 + e] = x[e] * a.scale;
                shared_q[(d + HALF) / 4][(d + HALF) % 4 + e] = y[e] * a.scale;
            }
        } else {
            const uint at = ((which - 1) * HEAD_DIM + d) / 2;
            new_pieces[at / 4][at % 4] = two_of_cache(x);
            new_pieces[(at + HALF / 2) / 4][(at + HALF / 2) % 4] = two_of_cache(y);
        }
    }
}

// The largest of the subgroups' tops.
float top_of_team() {
    float top = LOWEST;
    UNROLL for (uint w = 0; w < TEAM; w += SUBGROUP)
        top = max(top, uintBitsToFloat(POOL_WORD(TOPS_AT + min(w + id % SUBGROUP, TEAM - 1))));
    return subgroupMax(top);
}

#define LOAD_KEYS(to, rows)                                                                                                      \
    UNROLL for (uint j = 0; j < KEYS; j++)                                                                                       \
        UNROLL for (uint i = 0; i < PIECES; i++)                                                                                 \
            to[j * PIECES + i] = U32x4((rows) + uint64_t(min(key + j * SLOTS, cached)) * (KV_ROWS * 2)).v[i * SPLIT + share];

// qkv, attended, partial: what is handed on of them in this layer; keys, values: its cache.
void attend(uint64_t qkv, uint64_t attended, uint64_t partial, uint64_t keys, uint64_t values, uint position) {
    const uint length = max((position + PARTS) / PARTS, SHORTEST), parts = (position + length) / length;  // of position + 1 keys
    const uint64_t angles = a.rope + uint64_t(min(position, a.rope_positions - 1)) * (HEAD_DIM * 4);
    const uint subgroup = id / SUBGROUP, share = id % SPLIT, slot = id % SUBGROUP / SPLIT;
    const uint cached = max(position, 1) - 1;  // the last row that is there; none at position 0: then it is not used
    const uint64_t stats = partial + Q_HEADS * PARTS * HEAD_DIM * 4;
    [[dont_unroll]] for (uint item = workgroup; item < Q_HEADS * parts; item += gl_NumWorkGroups.x) {
        const uint part = item / Q_HEADS, head = item % Q_HEADS, kv_head = head / SHARED_BY;
        const uint end = min((part + 1) * length, position + 1);
        uint key = subgroup < TEAM ? part * length + subgroup * (KEYS * SLOTS) + slot : 1u << 30;
        const uint64_t keys_at = keys + kv_head * (HEAD_DIM * 2), values_at = values + kv_head * (HEAD_DIM * 2);
        uvec4 k[KEYS * PIECES], v[KEYS * PIECES];
        LOAD_KEYS(k, keys_at)
        LOAD_KEYS(v, values_at)
        take_q_k_v(qkv, angles, head, kv_head);
        barrier();
        if (part + 1 == parts && head % SHARED_BY == 0 && id < 2 * ROW_PIECES)
            U32x4((id < ROW_PIECES ? keys_at : values_at) + uint64_t(position) * (KV_ROWS * 2)).v[id % ROW_PIECES] = new_pieces[id];

        float top = LOWEST, sum = 0;
        vec4 acc[PIECES * 2];
        UNROLL for (uint i = 0; i < PIECES * 2; i++) acc[i] = vec4(0);
        [[dont_unroll]] for (uint first = part * length; first < end; first += TEAM * KEYS * SLOTS) {
            UNROLL for (uint j = 0; j < KEYS; j++)
                if (key + j * SLOTS == position)
                    UNROLL for (uint i = 0; i < PIECES; i++) {
                        k[j * PIECES + i] = new_pieces[i * SPLIT + share];
                        v[j * PIECES + i] = new_pieces[ROW_PIECES + i * SPLIT + share];
                    }
            float s[KEYS];
            UNROLL for (uint j = 0; j < KEYS; j++) s[j] = 0;
            UNROLL for (uint i = 0; i < PIECES * 2; i++) {
                const vec4 q = shared_q[(i / 2 * SPLIT + share) * 2 + i % 2];
                UNROLL for (uint j = 0; j < KEYS; j++) s[j] = dot_add(s[j], q, quad(k[j * PIECES + i / 2], i % 2));
            }
            const uint now = key;
            key += TEAM * KEYS * SLOTS;
            LOAD_KEYS(k, keys_at)
            float new_top = top;
            UNROLL for (uint j = 0; j < KEYS; j++) {
                UNROLL for (uint m = 1; m < SPLIT; m *= 2) s[j] += subgroupShuffleXor(s[j], m);
                s[j] = mix(2 * LOWEST, s[j], now + j * SLOTS < end);
                new_top = max(new_top, s[j]);
            }
            const float keep = exp2(top - new_top);
            top = new_top;
            sum *= keep;
            UNROLL for (uint j = 0; j < KEYS; j++) {
                s[j] = exp2(s[j] - new_top);
                sum += s[j];
            }
            UNROLL for (uint i = 0; i < PIECES * 2; i++) {
                acc[i] *= keep;
                UNROLL for (uint j = 0; j < KEYS; j++) acc[i] += s[j] * quad(v[j * PIECES + i / 2], i % 2);
            }
            LOAD_KEYS(v, values_at)
        }

        // The slots' sums become one, then the subgroups', all to the same top.
        float of_slots = top;
        UNROLL for (uint m = SPLIT; m < SUBGROUP; m *= 2) of_slots = max(of_slots, subgroupShuffleXor(of_slots, m));
        if (subgroup < TEAM && id % SUBGROUP == 0) POOL_WORD(TOPS_AT + subgroup) = floatBitsToUint(of_slots);
        barrier();
        const float of_team = top_of_team(), keep = exp2(top - of_team);
        sum *= keep;
        UNROLL for (uint m = SPLIT; m < SUBGROUP; m *= 2) sum += subgroupShuffleXor(sum, m);
        if (subgroup < TEAM && id % SUBGROUP == 0) POOL_WORD(TOTALS_AT + subgroup) = floatBitsToUint(sum);
        UNROLL for (uint n = 0; n < PIECES * 8; n++) {
            float x = acc[n / 4][n % 4] * keep;
            UNROLL for (uint m = SPLIT; m < SUBGROUP; m *= 2) x += subgroupShuffleXor(x, m);
            if (slot == 0 && subgroup < TEAM) POOL_WORD(ACC_AT + (n * TEAM + subgroup) * SPLIT + share) = floatBitsToUint(x);
        }
        barrier();
        const uint d = id % HEAD_DIM, at = ACC_AT + (d / 8 / SPLIT * 8 + d % 8) * (TEAM * SPLIT) + d / 8 % SPLIT;
        float x = 0, total = 0;
        UNROLL for (uint w = 0; w < TEAM; w++) x += uintBitsToFloat(POOL_WORD(at + w * SPLIT));
        UNROLL for (uint w = 0; w < TEAM; w += SUBGROUP)
            total += w + id % SUBGROUP < TEAM ? uintBitsToFloat(POOL_WORD(TOTALS_AT + w + id % SUBGROUP)) : 0;
        total = subgroupAdd(total);
        if (parts == 1) {
            hand_on(attended, Q_ROWS, head * HEAD_DIM + d, x / total, id < HEAD_DIM);
        } else if (id < HEAD_DIM) {
            const uint of_part = head * PARTS + part;
            Handed(partial).v[of_part * HEAD_DIM + d] = whole(x);
            if (d == 0) {
                Handed(stats).v[of_part * 2] = whole(of_team);
                Handed(stats).v[of_part * 2 + 1] = whole(total);
            }
        }
        barrier();
    }
    if (parts == 1) return;
    if (CPU) barrier();
    [[dont_unroll]] for (uint head = workgroup; head < Q_HEADS; head += gl_NumWorkGroups.x) {
        [[dont_unroll]] for (uint i = id; i < parts * (HEAD_DIM / 4); i += WIDTH) {
            const uvec4 four = words_handed(partial + head * (PARTS * HEAD_DIM * 4), i);
            UNROLL for (uint c = 0; c < 4; c++) POOL_WORD(i * 4 + c) = four[c];
        }
        [[dont_unroll]] for (uint i = id; i < parts * 2; i += WIDTH)
            POOL_WORD(PARTS * HEAD_DIM + i) = word_handed(stats + head * (PARTS * 8), i);
        barrier();
        float all = LOWEST, x = 0, total = 0;
        [[dont_unroll]] for (uint p = 0; p < parts; p++) all = max(all, uintBitsToFloat(POOL_WORD(PARTS * HEAD_DIM + p * 2)));
        [[dont_unroll]] for (uint p = 0; p < parts; p++) {
            const float keep = exp2(uintBitsToFloat(POOL_WORD(PARTS * HEAD_DIM + p * 2)) - all);
            total += keep * uintBitsToFloat(POOL_WORD(PARTS * HEAD_DIM + p * 2 + 1));
            x += keep * uintBitsToFloat(POOL_WORD(p * HEAD_DIM + id % HEAD_DIM));
        }
        hand_on(attended, Q_ROWS, head * HEAD_DIM + id % HEAD_DIM, x / total, id < HEAD_DIM);
        barrier();
    }
}
