#include "cluster/convert.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { GROUP = 32, PACKED = 34, INFINITE = 0x7c00, MAGNITUDE = 0x7fff }; // numbers, bytes; bits of a half

// ---------------------------------------------------------------- one number
static float of_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static float half_to_float(uint16_t h) { // finite ones
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & MAGNITUDE;
    if (rest < 0x0400) { // zero and subnormals: rest units of 2^-24
        float f = (float)rest * 0x1p-24f;
        return sign ? -f : f;
    }
    return of_bits(sign | ((rest << 13) + 0x38000000u));
}

// Rounds to nearest, ties to even.
static uint16_t float_to_half(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    uint32_t sign = u >> 16 & 0x8000, rest = u & 0x7fffffff;
    if (rest > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (rest >= 0x477ff000) return (uint16_t)(sign | INFINITE);
    if (rest >= 0x38800000) // normal as a half
        return (uint16_t)(sign | ((rest + 0xfff + (rest >> 13 & 1) - 0x38000000u) >> 13));
    // The sum's last bit is worth 2^-24, as a half's is down there, and the sum is rounded to nearest even.
    float sum = of_bits(rest) + 0.5f;
    memcpy(&u, &sum, sizeof u);
    return (uint16_t)(sign | (u - 0x3f000000u));
}

static uint16_t tamed(uint16_t h) {
    uint16_t rest = h & MAGNITUDE;
    if (rest < INFINITE) return h;
    return rest > INFINITE ? 0 : (uint16_t)((h & 0x8000) | (INFINITE - 1));
}

// ---------------------------------------------------------------- portable
static void pack_group(const uint8_t *src, uint8_t *dst) {
    uint16_t h[GROUP], most = 0;
    memcpy(h, src, sizeof h);
    for (int i = 0; i < GROUP; i++) {
        h[i] = tamed(h[i]);
        if ((h[i] & MAGNITUDE) > most) most = h[i] & MAGNITUDE;
    }
    float d = half_to_float(most) / 127.0f, inverse = d > 0 ? 1.0f / d : 0.0f;
    uint16_t scale = float_to_half(d);
    memcpy(dst, &scale, sizeof scale);
    for (int i = 0; i < GROUP; i++) dst[2 + i] = (uint8_t)(int8_t)roundf(half_to_float(h[i]) * inverse);
}

static void pack(const uint8_t *src, uint8_t *dst, size_t groups) {
    for (size_t i = 0; i < groups; i++) pack_group(src + i * GROUP * 2, dst + i * PACKED);
}

static void unpack_group(const uint8_t *src, uint8_t *dst) {
    uint16_t scale, h[GROUP];
    memcpy(&scale, src, sizeof scale);
    float d = half_to_float(tamed(scale));
    for (int i = 0; i < GROUP; i++) h[i] = float_to_half((float)(int8_t)src[2 + i] * d);
    memcpy(dst, h, sizeof h);
}

static void unpack(const uint8_t *src, uint8_t *dst, size_t groups) {
    for (size_t i = 0; i < groups; i++) unpack_group(src + i * PACKED, dst + i * GROUP * 2);
}

// ---------------------------------------------------------------- x86
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <stdatomic.h>
#define SIMD    "avx2"
#define SIMD_FN __attribute__((target("avx2,f16c")))

// Asked once: cpuid leaves a virtual machine each time. __builtin_cpu_supports does not know f16c in clang 14.
static bool simd_here(void) {
    static atomic_int known; // 0 = not asked yet, else 1 + the answer
    int now = atomic_load_explicit(&known, memory_order_relaxed);
    unsigned a, b, c, d;
    if (now) return now > 1;
    bool here = __builtin_cpu_supports("avx2") && __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
    atomic_store_explicit(&known, 1 + here, memory_order_relaxed);
    return here;
}

SIMD_FN static uint16_t largest(__m256i a, __m256i b) {
    __m256i all = _mm256_set1_epi16(MAGNITUDE);
    __m256i m = _mm256_max_epu16(_mm256_and_si256(a, all), _mm256_and_si256(b, all));
    __m128i x = _mm_max_epu16(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
    __m128i least = _mm_minpos_epu16(_mm_xor_si128(x, _mm_set1_epi16(-1)));
    return (uint16_t)~_mm_extract_epi16(least, 0);
}

// As roundf, ties away from zero: adding the largest float below one half and cutting off does that for |x| < 2^22.
SIMD_FN static __m256i rounded(__m128i h, __m256 inverse) {
    __m256 x = _mm256_mul_ps(_mm256_cvtph_ps(h), inverse);
    __m256 sign = _mm256_and_ps(x, _mm256_set1_ps(-0.0f));
    return _mm256_cvttps_epi32(_mm256_add_ps(x, _mm256_or_ps(sign, _mm256_set1_ps(0x1.fffffep-2f))));
}

SIMD_FN static void pack_simd(const uint8_t *src, uint8_t *dst, size_t groups) {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (size_t i = 0; i < groups; i++, src += GROUP * 2, dst += PACKED) {
        __m256i a = _mm256_loadu_si256((const __m256i *)src), b = _mm256_loadu_si256((const __m256i *)(src + GROUP));
        uint16_t most = largest(a, b);
        if (most >= INFINITE) {
            pack_group(src, dst);
            continue;
        }
        float d = half_to_float(most) / 127.0f;
        __m256 inverse = _mm256_set1_ps(d > 0 ? 1.0f / d : 0.0f);
        uint16_t scale = float_to_half(d);
        memcpy(dst, &scale, sizeof scale);
        __m256i lo = _mm256_packs_epi32(rounded(_mm256_castsi256_si128(a), inverse),
                                        rounded(_mm256_extracti128_si256(a, 1), inverse));
        __m256i hi = _mm256_packs_epi32(rounded(_mm256_castsi256_si128(b), inverse),
                                        rounded(_mm256_extracti128_si256(b, 1), inverse));
        __m256i q = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(lo, hi), order);
        _mm256_storeu_si256((__m256i *)(dst + 2), q);
    }
}

SIMD_FN static void unpack_simd(const uint8_t *src, uint8_t *dst, size_t groups) {
    for (size_t i = 0; i < groups; i++, src += PACKED, dst += GROUP * 2) {
        uint16_t scale;
        memcpy(&scale, src, sizeof scale);
        __m256 d = _mm256_set1_ps(half_to_float(tamed(scale)));
        for (int k = 0; k < GROUP; k += 8) {
            __m256 q = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(src + 2 + k))));
            __m128i h = _mm256_cvtps_ph(_mm256_mul_ps(q, d), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
            _mm_storeu_si128((__m128i *)(dst + 2 * k), h);
        }
    }
}

// ---------------------------------------------------------------- ARM
#elif defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>
#define SIMD "neon"

static bool simd_here(void) { return true; }

static float32x4_t widened(const uint8_t *src) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(src))); }

static uint16_t largest(const uint8_t *src) {
    uint16x8_t all = vdupq_n_u16(MAGNITUDE), m = vdupq_n_u16(0);
    for (int k = 0; k < GROUP; k += 8) m = vmaxq_u16(m, vandq_u16(vreinterpretq_u16_u8(vld1q_u8(src + 2 * k)), all));
    return vmaxvq_u16(m);
}

static void pack_simd(const uint8_t *src, uint8_t *dst, size_t groups) {
    for (size_t i = 0; i < groups; i++, src += GROUP * 2, dst += PACKED) {
        uint16_t most = largest(src);
        if (most >= INFINITE) {
            pack_group(src, dst);
            continue;
        }
        float d = half_to_float(most) / 127.0f, inverse = d > 0 ? 1.0f / d : 0.0f;
        uint16_t scale = float_to_half(d);
        memcpy(dst, &scale, sizeof scale);
        for (int k = 0; k < GROUP; k += 8) { // vcvta: ties away from zero
            int32x4_t lo = vcvtaq_s32_f32(vmulq_n_f32(widened(src + 2 * k), inverse));
            int32x4_t hi = vcvtaq_s32_f32(vmulq_n_f32(widened(src + 2 * k + 8), inverse));
            vst1_s8((int8_t *)dst + 2 + k, vmovn_s16(vcombine_s16(vmovn_s32(lo), vmovn_s32(hi))));
        }
    }
}

static void unpack_simd(const uint8_t *src, uint8_t *dst, size_t groups) {
    for (size_t i = 0; i < groups; i++, src += PACKED, dst += GROUP * 2) {
        uint16_t scale;
        memcpy(&scale, src, sizeof scale);
        float d = half_to_float(tamed(scale));
        for (int k = 0; k < GROUP; k += 8) {
            int16x8_t q = vmovl_s8(vreinterpret_s8_u8(vld1_u8(src + 2 + k)));
            float16x4_t lo = vcvt_f16_f32(vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(q))), d));
            float16x4_t hi = vcvt_f16_f32(vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_high_s16(q))), d));
            vst1q_u8(dst + 2 * k, vreinterpretq_u8_f16(vcombine_f16(lo, hi)));
        }
    }
}
#else
#define SIMD        "portable"
static bool simd_here(void) { return false; }
#define pack_simd   pack
#define unpack_simd unpack
#endif

// ---------------------------------------------------------------- rows
static void rows(enum kv_dtype from, const void *src, enum kv_dtype to, void *dst, size_t elements, bool simd) {
    if (from == to)
        memcpy(dst, src, kv_bytes(from, elements));
    else if (to == KV_Q8_0)
        (simd ? pack_simd : pack)(src, dst, elements / GROUP);
    else
        (simd ? unpack_simd : unpack)(src, dst, elements / GROUP);
}

void convert_rows(enum kv_dtype from, const void *src, enum kv_dtype to, void *dst, size_t elements) {
    rows(from, src, to, dst, elements, simd_here());
}

void convert_rows_portable(enum kv_dtype from, const void *src, enum kv_dtype to, void *dst, size_t elements) {
    rows(from, src, to, dst, elements, false);
}

const char *convert_path(void) { return simd_here() ? SIMD : "portable"; }
