"""The operators' CUDA halves pass the tests of the CPU halves: in emulation, and on a GPU."""

# ruff: noqa: F401

from __future__ import annotations

import pytest
from test_beam_search import (
    test_batch_padding_and_strides_change_nothing,
    test_float32_is_searched_in_double,
    test_impossible_frame_leaves_no_hypothesis,
    test_keeps_what_the_textbook_search_keeps,
    test_nan_and_infinity_name_the_utterance,
    test_no_frames_is_the_empty_labeling,
    test_no_utterances,
    test_prefix_that_leaves_the_beam_and_returns_is_found_once,
    test_ranked_by_exact_probability_then_labeling_order,
    test_tied_labelings_of_a_long_uniform_utterance_come_in_labeling_order,
    test_ties_come_in_labeling_order,
    test_unlimited_width_equals_enumeration,
    test_unused_slots_are_marked,
    test_wider_beam_than_hypotheses_returns_the_best_of_the_beam,
    test_wrong_arguments_are_named,
)
from test_nbest_cotangents import (
    test_a_certain_labeling_has_nothing_to_span,
    test_a_span_that_saves_little_is_not_used,
    test_batches_order_and_padding_change_nothing,
    test_classes_of_no_labeling_count,
    test_compression_is_what_the_slow_twin_makes,
    test_equal_eigenvalues_do_not_make_rounding_decide,
    test_normals_are_a_function_of_key_and_labeling,
    test_rows_span_all_cotangents_and_are_the_fewest_that_do,
    test_without_compression_it_is_search_and_cotangents,
)
from test_nbest_cotangents import test_wrong_arguments_are_named as test_wrong_nbest_arguments

pytestmark = pytest.mark.usefixtures("engine")
