// SPDX-License-Identifier: Apache-2.0
// The tiers, from plainest to best, and the choice between them. Each row of a table reads as coverage: what ends in _c is
// what a tier has no better version of.

#include <string.h>

#include "kernels/kernels.h"

static const qcnn_kernels kernels_c = {
    .name = "c",
    .prices = &qcnn_prices_plain,
    .gemm_rows = 4,
    .gemm_columns = 8,
    .gemm = qcnn_gemm_4x8_c,
    .dots = qcnn_dots_c,
    .depthwise = qcnn_depthwise_c,
    .maximum = qcnn_maximum_c,
    .accumulate = qcnn_accumulate_c,
    .max_rows = qcnn_max_rows_c,
    .max_columns = qcnn_max_columns_c,
    .max_windows = qcnn_max_windows_c,
    .lrn = qcnn_lrn_c,
    .activate = qcnn_activate_c,
    .lut_sum_columns = qcnn_lut_sum_columns_c,
    .lut_sum = qcnn_lut_sum_c,
    .bytes_limit = 127,
    .bytes_rows = 4,
    .bytes_columns = 16,
    .range = qcnn_range_c,
    .quantize_quads = qcnn_quantize_quads_c,
    .quad_norms = qcnn_quad_norms_c,
    .table_peaks = qcnn_table_peaks_c,
    .table_bytes = qcnn_table_bytes_c,
    .lut_conv_bytes = qcnn_lut_conv_bytes_c,
    .lut_fc_bytes = qcnn_lut_fc_bytes_c,
    .lut_sum_words = qcnn_lut_sum_words_c,
    .quantize_bytes = qcnn_quantize_bytes_c,
    .quantize_words = qcnn_quantize_words_c,
    .dequantize = qcnn_dequantize_c,
    .dequantize_turned = qcnn_dequantize_turned_c,
    .dense_bytes = qcnn_dense_bytes_4x16_c,
    .dense_quads = qcnn_dense_quads_4x16_c,
    .requantize_turned = qcnn_requantize_turned_c,
    .max_quads = qcnn_max_quads_c,
    .lrn_quads = qcnn_lrn_quads_c,
    .dequantize_quads = qcnn_dequantize_quads_c,
};

#if defined(__x86_64__)
static const qcnn_kernels kernels_avx2 = {
    .name = "avx2",
    .prices = &qcnn_prices_word_tables,
    .gemm_rows = 6,
    .gemm_columns = 16,
    .gemm = qcnn_gemm_6x16_avx2,
    .dots = qcnn_dots_avx2,
    .depthwise = qcnn_depthwise_avx2,
    .maximum = qcnn_maximum_avx2,
    .accumulate = qcnn_accumulate_avx2,
    .max_rows = qcnn_max_rows_avx2,
    .max_columns = qcnn_max_columns_avx2,
    .max_windows = qcnn_max_windows_avx2,
    .lrn = qcnn_lrn_avx2,
    .activate = qcnn_activate_avx2,
    .lut_sum_columns = qcnn_lut_sum_columns_avx2,
    .lut_sum = qcnn_lut_sum_avx2,
    .bytes_limit = 127,
    .bytes_rows = 4,
    .bytes_columns = 16,
    .range = qcnn_range_avx2,
    .quantize_quads = qcnn_quantize_quads_avx2,
    .quad_norms = qcnn_quad_norms_c,
    .table_peaks = qcnn_table_peaks_avx2,
    .table_bytes = qcnn_table_bytes_avx2,
    .lut_conv_bytes = qcnn_lut_conv_bytes_c,
    .lut_fc_bytes = qcnn_lut_fc_bytes_avx2,
    .lut_sum_words = qcnn_lut_sum_words_avx2,
    .quantize_bytes = qcnn_quantize_bytes_avx2,
    .quantize_words = qcnn_quantize_words_avx2,
    .dequantize = qcnn_dequantize_avx2,
    .dequantize_turned = qcnn_dequantize_turned_c,
    .dense_bytes = qcnn_dense_bytes_4x16_avx2,
    .dense_quads = qcnn_dense_quads_4x16_avx2,
    .requantize_turned = qcnn_requantize_turned_avx2,
    .max_quads = qcnn_max_quads_avx2,
    .lrn_quads = qcnn_lrn_quads_avx2,
    .dequantize_quads = qcnn_dequantize_quads_avx2,
};

static const qcnn_kernels kernels_avx512 = {
    .name = "avx512",
    .prices = &qcnn_prices_word_tables,
    .gemm_rows = 6,
    .gemm_columns = 16,
    .gemm = qcnn_gemm_6x16_avx2,
    .dots = qcnn_dots_avx2,
    .depthwise = qcnn_depthwise_avx2,
    .maximum = qcnn_maximum_avx2,
    .accumulate = qcnn_accumulate_avx2,
    .max_rows = qcnn_max_rows_avx512,
    .max_columns = qcnn_max_columns_avx512,
    .max_windows = qcnn_max_windows_avx512,
    .lrn = qcnn_lrn_avx512,
    .activate = qcnn_activate_avx2,
    .lut_sum_columns = qcnn_lut_sum_columns_avx2,
    .lut_sum = qcnn_lut_sum_avx2,
    .bytes_limit = 127,
    .bytes_rows = 4,
    .bytes_columns = 16,
    .range = qcnn_range_avx512,
    .quantize_quads = qcnn_quantize_quads_avx512,
    .quad_norms = qcnn_quad_norms_avx512,
    .table_peaks = qcnn_table_peaks_avx2,
    .table_bytes = qcnn_table_bytes_avx2,
    .lut_conv_bytes = qcnn_lut_conv_bytes_c,
    .lut_fc_bytes = qcnn_lut_fc_bytes_avx2,
    .lut_sum_words = qcnn_lut_sum_words_avx512,
    .quantize_bytes = qcnn_quantize_bytes_avx512,
    .quantize_words = qcnn_quantize_words_avx512,
    .dequantize = qcnn_dequantize_avx512,
    .dequantize_turned = qcnn_dequantize_turned_avx512,
    .dense_bytes = qcnn_dense_bytes_4x16_avx2,
    .dense_quads = qcnn_dense_quads_4x16_avx2,
    .requantize_turned = qcnn_requantize_turned_avx512,
    .max_quads = qcnn_max_quads_avx512,
    .lrn_quads = qcnn_lrn_quads_avx512,
    .dequantize_quads = qcnn_dequantize_quads_avx512,
};

static const qcnn_kernels kernels_avx512vnni = {
    .name = "avx512vnni",
    .prices = &qcnn_prices_word_tables,
    .gemm_rows = 6,
    .gemm_columns = 16,
    .gemm = qcnn_gemm_6x16_avx2,
    .dots = qcnn_dots_avx2,
    .depthwise = qcnn_depthwise_avx2,
    .maximum = qcnn_maximum_avx2,
    .accumulate = qcnn_accumulate_avx2,
    .max_rows = qcnn_max_rows_avx512,
    .max_columns = qcnn_max_columns_avx512,
    .max_windows = qcnn_max_windows_avx512,
    .lrn = qcnn_lrn_avx512,
    .activate = qcnn_activate_avx2,
    .lut_sum_columns = qcnn_lut_sum_columns_avx2,
    .lut_sum = qcnn_lut_sum_avx2,
    .bytes_limit = 255,
    .bytes_rows = 8,
    .bytes_columns = 48,
    .range = qcnn_range_avx512,
    .quantize_quads = qcnn_quantize_quads_avx512,
    .quad_norms = qcnn_quad_norms_avx512,
    .table_peaks = qcnn_table_peaks_avx2,
    .table_bytes = qcnn_table_bytes_avx2,
    .lut_conv_bytes = qcnn_lut_conv_bytes_c,
    .lut_fc_bytes = qcnn_lut_fc_bytes_avx2,
    .lut_sum_words = qcnn_lut_sum_words_avx512,
    .quantize_bytes = qcnn_quantize_bytes_avx512,
    .quantize_words = qcnn_quantize_words_avx512,
    .dequantize = qcnn_dequantize_avx512,
    .dequantize_turned = qcnn_dequantize_turned_avx512,
    .dense_bytes = qcnn_dense_bytes_8x48_avx512vnni,
    .dense_quads = qcnn_dense_quads_8x48_avx512vnni,
    .requantize_turned = qcnn_requantize_turned_avx512,
    .max_quads = qcnn_max_quads_avx512,
    .lrn_quads = qcnn_lrn_quads_avx512,
    .dequantize_quads = qcnn_dequantize_quads_avx512,
};

static const qcnn_kernels kernels_avx512vbmi = {
    .name = "avx512vbmi",
    .prices = &qcnn_prices_byte_tables,
    .gemm_rows = 6,
    .gemm_columns = 16,
    .gemm = qcnn_gemm_6x16_avx2,
    .dots = qcnn_dots_avx2,
    .depthwise = qcnn_depthwise_avx2,
    .maximum = qcnn_maximum_avx2,
    .accumulate = qcnn_accumulate_avx2,
    .max_rows = qcnn_max_rows_avx512,
    .max_columns = qcnn_max_columns_avx512,
    .max_windows = qcnn_max_windows_avx512,
    .lrn = qcnn_lrn_avx512,
    .activate = qcnn_activate_avx2,
    .lut_sum_columns = qcnn_lut_sum_columns_avx2,
    .lut_sum = qcnn_lut_sum_avx2,
    .bytes_limit = 255,
    .bytes_rows = 8,
    .bytes_columns = 48,
    .range = qcnn_range_avx512,
    .quantize_quads = qcnn_quantize_quads_avx512,
    .quad_norms = qcnn_quad_norms_avx512,
    .table_peaks = qcnn_table_peaks_avx512vbmi,
    .table_bytes = qcnn_table_bytes_avx512vbmi,
    .lut_conv_bytes = qcnn_lut_conv_bytes_avx512vbmi,
    .lut_fc_bytes = qcnn_lut_fc_bytes_avx512vbmi,
    .lut_sum_words = qcnn_lut_sum_words_avx512,
    .quantize_bytes = qcnn_quantize_bytes_avx512,
    .quantize_words = qcnn_quantize_words_avx512,
    .dequantize = qcnn_dequantize_avx512,
    .dequantize_turned = qcnn_dequantize_turned_avx512,
    .dense_bytes = qcnn_dense_bytes_8x48_avx512vnni,
    .dense_quads = qcnn_dense_quads_8x48_avx512vnni,
    .requantize_turned = qcnn_requantize_turned_avx512,
    .max_quads = qcnn_max_quads_avx512,
    .lrn_quads = qcnn_lrn_quads_avx512,
    .dequantize_quads = qcnn_dequantize_quads_avx512,
    .conv_byte_tables = true,
};
#endif

#if defined(__aarch64__)
static const qcnn_kernels kernels_neon = {
    .name = "neon",
    .prices = &qcnn_prices_neon,
    .gemm_rows = 8,
    .gemm_columns = 8,
    .gemm = qcnn_gemm_8x8_neon,
    .dots = qcnn_dots_neon,
    .depthwise = qcnn_depthwise_neon,
    .maximum = qcnn_maximum_neon,
    .accumulate = qcnn_accumulate_neon,
    .max_rows = qcnn_max_rows_neon,
    .max_columns = qcnn_max_columns_neon,
    .max_windows = qcnn_max_windows_c,
    .lrn = qcnn_lrn_neon,
    .activate = qcnn_activate_neon,
    .lut_sum_columns = qcnn_lut_sum_columns_neon,
    .lut_sum = qcnn_lut_sum_neon,
    .bytes_limit = 127,
    .bytes_rows = 4,
    .bytes_columns = 16,
    .range = qcnn_range_neon,
    .quantize_quads = qcnn_quantize_quads_neon,
    .quad_norms = qcnn_quad_norms_c,
    .table_peaks = qcnn_table_peaks_neon,
    .table_bytes = qcnn_table_bytes_neon,
    .lut_conv_bytes = qcnn_lut_conv_bytes_c,
    .lut_fc_bytes = qcnn_lut_fc_bytes_neon,
    .lut_sum_words = qcnn_lut_sum_words_neon,
    .quantize_bytes = qcnn_quantize_bytes_neon,
    .quantize_words = qcnn_quantize_words_neon,
    .dequantize = qcnn_dequantize_neon,
    .dequantize_turned = qcnn_dequantize_turned_c,
    .dense_bytes = qcnn_dense_bytes_4x16_neon,
    .dense_quads = qcnn_dense_quads_4x16_neon,
    .requantize_turned = qcnn_requantize_turned_neon,
    .max_quads = qcnn_max_quads_neon,
    .lrn_quads = qcnn_lrn_quads_neon,
    .dequantize_quads = qcnn_dequantize_quads_neon,
};

#if !defined(QCNN_NO_NEONDOT)
static const qcnn_kernels kernels_neondot = {
    .name = "neondot",
    .prices = &qcnn_prices_neondot,
    .gemm_rows = 8,
    .gemm_columns = 8,
    .gemm = qcnn_gemm_8x8_neon,
    .dots = qcnn_dots_neon,
    .depthwise = qcnn_depthwise_neon,
    .maximum = qcnn_maximum_neon,
    .accumulate = qcnn_accumulate_neon,
    .max_rows = qcnn_max_rows_neon,
    .max_columns = qcnn_max_columns_neon,
    .max_windows = qcnn_max_windows_c,
    .lrn = qcnn_lrn_neon,
    .activate = qcnn_activate_neon,
    .lut_sum_columns = qcnn_lut_sum_columns_neon,
    .lut_sum = qcnn_lut_sum_neon,
    .bytes_limit = 127,
    .bytes_rows = 4,
    .bytes_columns = 16,
    .range = qcnn_range_neon,
    .quantize_quads = qcnn_quantize_quads_neon,
    .quad_norms = qcnn_quad_norms_c,
    .table_peaks = qcnn_table_peaks_neondot,
    .table_bytes = qcnn_table_bytes_neondot,
    .lut_conv_bytes = qcnn_lut_conv_bytes_c,
    .lut_fc_bytes = qcnn_lut_fc_bytes_neon,
    .lut_sum_words = qcnn_lut_sum_words_neon,
    .quantize_bytes = qcnn_quantize_bytes_neon,
    .quantize_words = qcnn_quantize_words_neon,
    .dequantize = qcnn_dequantize_neon,
    .dequantize_turned = qcnn_dequantize_turned_c,
    .dense_bytes = qcnn_dense_bytes_4x16_neondot,
    .dense_quads = qcnn_dense_quads_4x16_neondot,
    .requantize_turned = qcnn_requantize_turned_neon,
    .max_quads = qcnn_max_quads_neon,
    .lrn_quads = qcnn_lrn_quads_neon,
    .dequantize_quads = qcnn_dequantize_quads_neon,
};
#endif
#endif

#if defined(__wasm_simd128__)
static const qcnn_kernels kernels_wasm = {
    .name = "wasm",
    .prices = &qcnn_prices_plain,
    .gemm_rows = 4,
    .gemm_columns = 8,
    .gemm = qcnn_gemm_4x8_c,
    .dots = qcnn_dots_wasm,
    .depthwise = qcnn_depthwise_wasm,
    .maximum = qcnn_maximum_wasm,
    .accumulate = qcnn_accumulate_wasm,
    .max_rows = qcnn_max_rows_wasm,
    .max_columns = qcnn_max_columns_wasm,
    .max_windows = qcnn_max_windows_c,
    .lrn = qcnn_lrn_wasm,
    .activate = qcnn_activate_c,
    .lut_sum_columns = qcnn_lut_sum_columns_c,
    .lut_sum = qcnn_lut_sum_c,
    .bytes_limit = 255,
    .bytes_rows = 2,
    .bytes_columns = 16,
    .range = qcnn_range_wasm,
    .quantize_quads = qcnn_quantize_quads_wasm,
    .quad_norms = qcnn_quad_norms_c,
    .table_peaks = qcnn_table_peaks_wasm,
    .table_bytes = qcnn_table_bytes_wasm,
    .lut_conv_bytes = qcnn_lut_conv_bytes_c,
    .lut_fc_bytes = qcnn_lut_fc_bytes_wasm,
    .lut_sum_words = qcnn_lut_sum_words_wasm,
    .quantize_bytes = qcnn_quantize_bytes_wasm,
    .quantize_words = qcnn_quantize_words_wasm,
    .dequantize = qcnn_dequantize_wasm,
    .dequantize_turned = qcnn_dequantize_turned_c,
    .dense_bytes = qcnn_dense_bytes_2x16_wasm,
    .dense_quads = qcnn_dense_quads_2x16_wasm,
    .requantize_turned = qcnn_requantize_turned_wasm,
    .max_quads = qcnn_max_quads_wasm,
    .lrn_quads = qcnn_lrn_quads_wasm,
    .dequantize_quads = qcnn_dequantize_quads_wasm,
};
#endif

static const struct kernel_tier {
    const qcnn_kernels *kernels;
    unsigned needs; // QCNN_CPU_* flags
} kernel_tiers[] = {
    { &kernels_c, 0 },
#if defined(__x86_64__)
    { &kernels_avx2, QCNN_CPU_AVX2 },
    { &kernels_avx512, QCNN_CPU_AVX512 },                                                 // Skylake's
    { &kernels_avx512vnni, QCNN_CPU_AVX512 | QCNN_CPU_AVX512VNNI },                       // Cascade Lake's
    { &kernels_avx512vbmi, QCNN_CPU_AVX512 | QCNN_CPU_AVX512VNNI | QCNN_CPU_AVX512VBMI }, // Ice Lake's and Zen 4's
#elif defined(__aarch64__)
    { &kernels_neon, 0 }, // part of the architecture
#if !defined(QCNN_NO_NEONDOT)
    { &kernels_neondot, QCNN_CPU_DOT },
#endif
#elif defined(__wasm_simd128__)
    { &kernels_wasm, 0 }, // a module with SIMD runs nowhere else
#endif
};

// The index-th tier that this processor can run, or NULL.
static const qcnn_kernels *runnable_tier(int index)
{
    const unsigned flags = qcnn_cpu_flags();
    for (size_t i = 0; i < sizeof kernel_tiers / sizeof *kernel_tiers; i++)
        if ((kernel_tiers[i].needs & ~flags) == 0 && index-- == 0)
            return kernel_tiers[i].kernels;
    return NULL;
}

const qcnn_kernels *qcnn_kernels_find(const char *name)
{
    const qcnn_kernels *best = NULL, *tier;
    for (int i = 0; (tier = runnable_tier(i)) != NULL; i++) {
        if (name && strcmp(name, tier->name) == 0)
            return tier;
        best = tier;
    }
    return name ? NULL : best;
}

const char *qcnn_kernels_name(int index)
{
    const qcnn_kernels *tier = index < 0 ? NULL : runnable_tier(index);
    return tier ? tier->name : NULL;
}
