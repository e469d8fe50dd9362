// SPDX-License-Identifier: Apache-2.0
// Sorting codewords by use.

#include <stdlib.h>
#include <string.h>

#include "coding/encode.h"

typedef struct word_use {
    uint32_t n_uses;
    int word;
} word_use;

static int by_use(const void *a, const void *b)
{
    const word_use *p = a, *q = b;
    return p->n_uses != q->n_uses ? (p->n_uses > q->n_uses ? -1 : 1) : p->word - q->word;
}

typedef struct book_rows {
    uint8_t *first;        // the assignments of the set's first group in a subspace
    size_t n_rows, stride; // one row for each group of the set
    size_t length;
} book_rows;

// Counts the words of one subspace and set, and ranks them.
static void rank_words(const book_rows *rows, int n_words, word_use uses[QCNN_MAX_CODEWORDS])
{
    for (int k = 0; k < n_words; k++)
        uses[k] = (word_use){ 0, k };
    for (size_t r = 0; r < rows->n_rows; r++)
        for (size_t i = 0; i < rows->length; i++)
            uses[rows->first[r * rows->stride + i]].n_uses++;
    qsort(uses, (size_t)n_words, sizeof *uses, by_use);
}

static void sort_words(const book_rows *rows, int n_words, size_t width, float *words, float *spare)
{
    word_use uses[QCNN_MAX_CODEWORDS];
    uint8_t place[QCNN_MAX_CODEWORDS] = { 0 };
    rank_words(rows, n_words, uses);
    memcpy(spare, words, (size_t)n_words * width * sizeof *words);
    for (int k = 0; k < n_words; k++) {
        place[uses[k].word] = (uint8_t)k;
        if (uses[k].n_uses > 0)
            memcpy(words + (size_t)k * width, spare + (size_t)uses[k].word * width, width * sizeof *words);
        else
            memset(words + (size_t)k * width, 0, width * sizeof *words);
    }
    for (size_t r = 0; r < rows->n_rows; r++)
        for (size_t i = 0; i < rows->length; i++) {
            uint8_t *assignment = &rows->first[r * rows->stride + i];
            *assignment = place[*assignment];
        }
}

qcnn_status qcnn_codebook_sort(qcnn_tensor *tensor, qcnn_error *error)
{
    const qcnn_codebook *book = &tensor->codebook;
    const size_t n_subspaces = (size_t)book->n_subspaces, width = (size_t)book->subspace;
    const size_t n_groups = (size_t)(book->groups / book->n_sets), n = (size_t)book->n_codewords * width;
    float *words = tensor->owned_data, *spare = qcnn_allocate(n, sizeof *spare);
    if (!spare)
        return qcnn_fail_memory(error, n * sizeof *spare);
    book_rows rows = { .n_rows = n_groups, .length = (size_t)book->n_taps * (size_t)book->n_outputs };
    rows.stride = n_subspaces * rows.length;
    for (size_t set = 0; set < (size_t)book->n_sets; set++)
        for (size_t m = 0; m < n_subspaces; m++, words += n) {
            rows.first = (uint8_t *)tensor->owned_assignments + set * n_groups * rows.stride + m * rows.length;
            sort_words(&rows, book->n_codewords, width, words, spare);
        }
    qcnn_release(spare);
    tensor->stored_bytes = 0;
    return QCNN_OK;
}
