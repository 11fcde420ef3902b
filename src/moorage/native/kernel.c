/*
 * Where do chunks end, what are the byte planes of a buffer, and what do they make: the loops over every byte that
 * Python cannot run.
 *
 * Loaded through ctypes by c_backend.py; the definitions are in gear.py and backend.py, and the numpy and plain Python
 * backends give exactly the same results. Built by `cc -O3 -shared -fPIC`: portable C11, nothing of libc but the memory
 * functions that compilers put in, no Python.h, no global state, so every function may run on any number of threads at
 * once.
 *
 * Whenever a signature or a result changes, raise ABI_VERSION here and in c_backend.py: that is how a stale build of
 * this file is told from a fresh one.
 */

#include <stddef.h>
#include <stdint.h>

#define ABI_VERSION 2
#define EXPORT __attribute__((visibility("default")))

/* One buffer of many, as Python describes it: the beginning of a Py_buffer, which is part of its stable ABI. */
struct part {
    const uint8_t *bytes;
    const void *owner;
    size_t size;
    const void *other[7];
};

EXPORT uint32_t moorage_kernel_abi(void);
EXPORT size_t moorage_cut_points(const uint8_t *data, size_t size, const uint64_t *gear, const uint64_t *params,
                                 int final, uint64_t *ends);
EXPORT void moorage_split_planes(const uint8_t *data, size_t size, uint32_t width, uint8_t *planes);
EXPORT size_t moorage_gather(const struct part *parts, const uint8_t *widths, size_t count, uint8_t *data);

uint32_t moorage_kernel_abi(void) { return ABI_VERSION; }

/* -- cut points ---------------------------------------------------------------------------------------------------- */

#define WINDOW 64   /* bytes that a 64-bit gear hash remembers: each older one has been shifted out */
#define STRIDE 1024 /* bytes that each of the two lanes of first_end() hashes in one go */
#define NO_END SIZE_MAX

struct params {
    uint64_t min, target, max, mask_small, mask_large;
};

/* The hash of the WINDOW bytes before `end`. */
static inline uint64_t hash_before(const uint8_t *end, const uint64_t *gear)
{
    uint64_t hash = 0;
    for (int i = -WINDOW; i < 0; i++)
        hash = (hash << 1) + gear[end[i]];
    return hash;
}

/*
 * The first end in [from, to) whose hash has no bit of `mask` set, or NO_END.
 *
 * One gear hash is a chain of additions, each waiting for the last, and the machine could do twice as much. A hash
 * depends on 64 bytes only, so two lanes hash two neighbouring stretches at once. The second lane's find counts only
 * once the first lane is through without one.
 */
static size_t first_end(const uint8_t *data, size_t from, size_t to, uint64_t mask, const uint64_t *gear)
{
    if (from >= to)
        return NO_END;
    uint64_t hash = hash_before(data + from, gear);
    if (!(hash & mask))
        return from;
    size_t last = to - 1; /* from here on `from` is an end already judged, and `hash` its hash */
    while (last - from >= 2 * STRIDE) {
        const uint8_t *near = data + from, *far = near + STRIDE;
        uint64_t far_hash = hash_before(far, gear);
        size_t i = 0, far_find = NO_END;
        for (; i < STRIDE; i++) {
            hash = (hash << 1) + gear[near[i]];
            far_hash = (far_hash << 1) + gear[far[i]];
            if (!(hash & mask))
                return from + i + 1;
            if (!(far_hash & mask)) {
                far_find = from + STRIDE + i + 1;
                break;
            }
        }
        if (far_find != NO_END) {
            for (i++; i < STRIDE; i++) {
                hash = (hash << 1) + gear[near[i]];
                if (!(hash & mask))
                    return from + i + 1;
            }
            return far_find;
        }
        hash = far_hash;
        from += 2 * STRIDE;
    }
    for (; from < last; from++) {
        hash = (hash << 1) + gear[data[from]];
        if (!(hash & mask))
            return from + 1;
    }
    return NO_END;
}

/* The end of the chunk that starts at data[0], or NO_END while the bytes that decide it are yet to come. */
static size_t chunk_end(const uint8_t *data, size_t size, const uint64_t *gear, const struct params *p, int final)
{
    if (size < p->min)
        return final ? size : NO_END;
    size_t stop = size < p->max ? size : p->max;
    size_t turn = stop + 1 < p->target ? stop + 1 : p->target;
    size_t end = first_end(data, p->min, turn, p->mask_small, gear);
    if (end == NO_END)
        end = first_end(data, turn, stop + 1, p->mask_large, gear);
    if (end != NO_END)
        return end;
    return stop == p->max || final ? stop : NO_END;
}

/*
 * Writes the exclusive ends of the chunks of `data`, which starts at a chunk's start, and returns how many.
 * `params` is {min, target, max, mask_small, mask_large}, 64 <= min <= target <= max; `ends` has room for
 * size / min + 1. When not `final`, what follows the last end is undecided.
 */
size_t moorage_cut_points(const uint8_t *data, size_t size, const uint64_t *gear, const uint64_t *params, int final,
                          uint64_t *ends)
{
    const struct params p = {params[0], params[1], params[2], params[3], params[4]};
    size_t count = 0, start = 0;
    while (start < size) {
        size_t end = chunk_end(data + start, size - start, gear, &p, final);
        if (end == NO_END)
            break;
        start += end;
        ends[count++] = start;
    }
    return count;
}

/* -- byte planes --------------------------------------------------------------------------------------------------- */

/*
 * Wide elements are taken apart in steps of two, each a loop over neighbours that compilers turn into packs and unpacks
 * of 16 bytes even without -march; the steps between go through blocks that stay in the first-level cache.
 */
#define BLOCK 1024 /* elements */

static inline void unzip(const uint8_t *restrict both, size_t pairs, uint8_t *restrict even, uint8_t *restrict odd)
{
    for (size_t i = 0; i < pairs; i++) {
        even[i] = both[2 * i];
        odd[i] = both[2 * i + 1];
    }
}

static inline void zip(const uint8_t *restrict even, const uint8_t *restrict odd, size_t pairs, uint8_t *restrict both)
{
    for (size_t i = 0; i < pairs; i++) {
        both[2 * i] = even[i];
        both[2 * i + 1] = odd[i];
    }
}

/* `count` elements of 4 bytes to planes that lie `pitch` bytes apart; count <= BLOCK. */
static void split4(const uint8_t *data, size_t count, uint8_t *planes, size_t pitch)
{
    uint8_t even[4 * BLOCK], odd[4 * BLOCK];
    unzip(data, 2 * count, even, odd);
    unzip(even, count, planes, planes + 2 * pitch);
    unzip(odd, count, planes + pitch, planes + 3 * pitch);
}

static void join4(const uint8_t *const *planes, size_t step, size_t from, size_t count, uint8_t *data)
{
    uint8_t even[4 * BLOCK], odd[4 * BLOCK];
    zip(planes[0] + from, planes[2 * step] + from, count, even);
    zip(planes[step] + from, planes[3 * step] + from, count, odd);
    zip(even, odd, 2 * count, data);
}

static void split8(const uint8_t *data, size_t count, uint8_t *planes, size_t pitch)
{
    uint8_t even[4 * BLOCK], odd[4 * BLOCK];
    unzip(data, 4 * count, even, odd);
    split4(even, count, planes, 2 * pitch);
    split4(odd, count, planes + pitch, 2 * pitch);
}

static void join8(const uint8_t *const *planes, size_t from, size_t count, uint8_t *data)
{
    uint8_t even[4 * BLOCK], odd[4 * BLOCK];
    join4(planes, 2, from, count, even);
    join4(planes + 1, 2, from, count, odd);
    zip(even, odd, 4 * count, data);
}

/* `count` elements from planes that lie anywhere. */
static void join(const uint8_t *const *planes, uint32_t width, size_t count, uint8_t *data)
{
    if (width == 2) {
        zip(planes[0], planes[1], count, data);
        return;
    }
    for (size_t done = 0; done < count; done += BLOCK) {
        size_t some = count - done < BLOCK ? count - done : BLOCK;
        if (width == 4)
            join4(planes, 1, done, some, data + done * 4);
        else
            join8(planes, done, some, data + done * 8);
    }
}

static void copy(const uint8_t *restrict from, size_t size, uint8_t *restrict to)
{
    for (size_t i = 0; i < size; i++)
        to[i] = from[i];
}

/*
 * Plane k of `data`, byte k of each whole element of `width` (2, 4 or 8) bytes, to planes[k * count]; then the bytes
 * after the last whole element, as they are. `planes` has room for `size` bytes.
 */
void moorage_split_planes(const uint8_t *data, size_t size, uint32_t width, uint8_t *planes)
{
    size_t count = size / width;
    if (width == 2)
        unzip(data, count, planes, planes + count);
    else
        for (size_t done = 0; done < count; done += BLOCK) {
            size_t some = count - done < BLOCK ? count - done : BLOCK;
            (width == 4 ? split4 : split8)(data + done * width, some, planes + done, count);
        }
    copy(data + count * width, size - count * width, planes + count * width);
}

/*
 * Writes pieces one after another to `data`, which has room for all parts together: a piece of width 1 is its one part,
 * any other is joined from its `width` planes, which are as long as each other, and ends with the part after them.
 * Returns how many pieces were written: fewer than `count` where the planes of one are not as long as each other.
 */
size_t moorage_gather(const struct part *parts, const uint8_t *widths, size_t count, uint8_t *data)
{
    for (size_t piece = 0; piece < count; piece++) {
        uint32_t width = widths[piece];
        if (width > 1) {
            const uint8_t *planes[8];
            size_t elements = parts->size;
            for (uint32_t plane = 0; plane < width; plane++) {
                if (parts[plane].size != elements)
                    return piece;
                planes[plane] = parts[plane].bytes;
            }
            join(planes, width, elements, data);
            data += elements * width;
            parts += width;
        }
        copy(parts->bytes, parts->size, data);
        data += parts->size;
        parts++;
    }
    return count;
}
