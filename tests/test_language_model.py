from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from policies.attention import ATTENTIONS, AdditiveAttention, MultiplicativeAttention, NormalisedAttention
from policies.language_model import LONGEST_RUN, LMConfig, LSTMAttentionLM, copied_runs
from qa_env.errors import QAError
from qa_env.vocabulary import BOS, EOS, PAD, SEP

NewLM = Callable[..., LSTMAttentionLM]
SOURCE = torch.tensor([[5, 6, 7, SEP, 8, 5, 6, 9], [5, 10, SEP, 10, 11, PAD, PAD, PAD], [12] + [PAD] * 7])
ANSWER = torch.tensor([[5, 6, 9, 4, EOS], [10, 11, EOS, PAD, PAD], [12, 12, 12, 12, 12]])
VARIANTS = [
    pytest.param({"attention": a, "copy": c, "features": f}, id=f"{a}{'-copy' * c}{'-features' * f}")
    for a in ATTENTIONS
    for c in (True, False)
    for f in (True, False)
]


@pytest.mark.parametrize("parts", VARIANTS)
def test_single_steps_equal_the_unrolled_answer(new_lm: NewLM, parts: dict[str, object]) -> None:
    lm = new_lm(**parts)
    memory = lm.encode(SOURCE)
    unrolled = lm.unroll(ANSWER, memory)
    whole = lm.log_probabilities(unrolled)
    state, token = lm.start(memory), torch.full((3,), BOS)
    for time in range(ANSWER.shape[1]):
        decoded, state = lm.step(token, state, memory)
        torch.testing.assert_close(decoded.features[:, 0], unrolled.features[:, time], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(decoded.attention[:, 0], unrolled.attention[:, time], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(lm.log_probabilities(decoded)[:, 0], whole[:, time], atol=1e-4, rtol=1e-4)
        token = ANSWER[:, time]


@pytest.mark.parametrize("parts", VARIANTS)
def test_probabilities_sum_to_one(new_lm: NewLM, parts: dict[str, object]) -> None:
    lm = new_lm(**parts)
    decoded = lm.unroll(ANSWER, lm.encode(SOURCE))
    ones = torch.ones(ANSWER.shape)
    torch.testing.assert_close(lm.log_probabilities(decoded).exp().sum(2), ones)
    torch.testing.assert_close(decoded.attention.sum(2), ones)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_numbers_do_not_depend_on_the_other_rows_of_the_batch(new_lm: NewLM, attention: str) -> None:
    lm = new_lm(attention=attention)
    together = lm.log_probabilities(lm.unroll(ANSWER, lm.encode(SOURCE)))
    for row in range(3):
        alone = lm.log_probabilities(lm.unroll(ANSWER[[row]], lm.encode(SOURCE[[row]])))
        torch.testing.assert_close(alone[0], together[row], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_no_attention_falls_on_padding(new_lm: NewLM, attention: str) -> None:
    lm = new_lm(attention=attention)
    weights = lm.unroll(ANSWER, lm.encode(SOURCE)).attention
    assert not weights.transpose(1, 2)[SOURCE == PAD].any()


def test_a_prediction_does_not_depend_on_later_tokens(new_lm: NewLM) -> None:
    lm = new_lm()
    memory = lm.encode(SOURCE)
    changed = ANSWER.clone()
    changed[:, 3:] = 20
    before = lm.log_probabilities(lm.unroll(ANSWER, memory))
    after = lm.log_probabilities(lm.unroll(changed, memory))
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert (before[:, 4] - after[:, 4]).abs().max() > 1e-3


def force_gate(lm: LSTMAttentionLM, bias: float) -> None:
    with torch.no_grad():
        lm.generate_gate.weight.zero_()
        lm.generate_gate.bias.fill_(bias)


def test_with_the_gate_closed_probabilities_are_the_attention_on_the_source_tokens(new_lm: NewLM) -> None:
    lm = new_lm()
    force_gate(lm, -100.0)
    decoded = lm.unroll(ANSWER, lm.encode(SOURCE))
    expected = torch.zeros(3, ANSWER.shape[1], lm.vocabulary)
    for row, source in enumerate(SOURCE):
        for place, token in enumerate(source):
            expected[row, :, token] += decoded.attention[row, :, place]
    torch.testing.assert_close(lm.log_probabilities(decoded).exp(), expected, atol=1e-6, rtol=1e-5)
    assert expected[0, 0, 5] > decoded.attention[0, 0, 0]  # 5 stands in the source twice


def test_with_the_gate_open_or_without_copying_the_output_layer_decides(new_lm: NewLM) -> None:
    lm = new_lm()
    force_gate(lm, 100.0)
    decoded = lm.unroll(ANSWER, lm.encode(SOURCE))
    expected = (lm.output(decoded.features) @ lm.embedding.weight.T + lm.output_bias).softmax(2)
    torch.testing.assert_close(lm.log_probabilities(decoded).exp(), expected)
    plain = LSTMAttentionLM(LMConfig(**{**vars(lm.config), "copy": False}), lm.vocabulary)
    plain.load_state_dict(lm.state_dict(), strict=False)
    torch.testing.assert_close(plain.log_probabilities(decoded).exp(), expected)


def test_half_a_gate_mixes_half_and_half(new_lm: NewLM) -> None:
    lm = new_lm()
    parts = []
    for bias in (100.0, -100.0, 0.0):
        force_gate(lm, bias)
        parts.append(lm.log_probabilities(lm.unroll(ANSWER, lm.encode(SOURCE))).exp())
    torch.testing.assert_close(parts[2], (parts[0] + parts[1]) / 2, atol=1e-6, rtol=1e-5)


def slow_runs(tokens: list[int], source: list[int]) -> list[list[int]]:
    """How many of the last tokens stand just before each source position, by comparing lists."""
    return [
        [
            max(
                n
                for n in range(LONGEST_RUN + 1)
                if n <= min(t + 1, s) and source[s - n : s] == tokens[t + 1 - n : t + 1]
            )
            for s in range(len(source))
        ]
        for t in range(len(tokens))
    ]


ids = st.lists(st.integers(4, 6), min_size=1, max_size=9)


@given(tokens=ids, source=ids)
@settings(max_examples=150, deadline=None)
def test_copied_runs_are_what_comparing_lists_gives(tokens: list[int], source: list[int]) -> None:
    nothing = torch.zeros(1, len(source), dtype=torch.long)
    runs = copied_runs(torch.tensor([tokens]), torch.tensor([source]), nothing)[0]
    assert runs.tolist() == slow_runs(tokens, source)
    half = len(tokens) // 2
    if half:
        resumed = copied_runs(torch.tensor([tokens[half:]]), torch.tensor([source]), runs[None, half - 1])
        assert torch.equal(resumed[0], runs[half:])


def test_copied_runs_are_counted_in_each_row_by_itself() -> None:
    tokens, source = torch.tensor([[4, 5], [5, 4]]), torch.tensor([[4, 5, 6], [4, 5, 4]])
    runs = copied_runs(tokens, source, torch.zeros_like(source))
    assert runs.tolist() == [slow_runs([4, 5], [4, 5, 6]), slow_runs([5, 4], [4, 5, 4])]
    assert runs[0].tolist() == [[0, 1, 0], [0, 0, 2]]


def test_the_gain_draws_attention_behind_what_was_copied(new_lm: NewLM) -> None:
    lm = new_lm()
    with torch.no_grad():
        lm.run_gain.weight.zero_()
        lm.run_gain.bias.copy_(torch.tensor([5.0, 10.0, 50.0]))
    weights = lm.unroll(torch.tensor([[7, SEP, 8, 4]]), lm.encode(SOURCE[[0]])).attention[0]
    assert weights[3].argmax() == 5 and weights[3].max() > 0.99  # behind "7 SEP 8" stands position 5


def scores(module: torch.nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    query, memory = torch.randn(2, 3, 5), torch.randn(2, 4, 6)
    return query, memory, module(query, module.keys(memory))


def test_additive_scores_follow_the_formula() -> None:
    torch.manual_seed(0)
    module = AdditiveAttention(5, 6, 7)
    query, memory, got = scores(module)
    for b in range(2):
        for t in range(3):
            for s in range(4):
                hidden = (
                    module.query.weight @ query[b, t] + module.keys.weight @ memory[b, s] + module.keys.bias
                )
                torch.testing.assert_close(got[b, t, s], (module.score.weight @ torch.tanh(hidden))[0])


def test_multiplicative_scores_follow_the_formula() -> None:
    torch.manual_seed(0)
    module = MultiplicativeAttention(5, 6, 7)
    query, memory, got = scores(module)
    weight = module.query.weight.T @ module.keys.weight  # W of h^T W m
    torch.testing.assert_close(
        got, torch.einsum("btq,qm,bsm->bts", query, weight, memory), atol=1e-5, rtol=1e-5
    )


def test_normalised_scores_follow_the_formula() -> None:
    torch.manual_seed(0)
    module = NormalisedAttention(5, 6, 7)
    with torch.no_grad():
        module.gain.fill_(3.0)
    query, memory, got = scores(module)
    raw = torch.einsum("btq,qm,bsm->bts", query, module.query.weight.T @ module.keys.weight, memory)
    torch.testing.assert_close(got, 3.0 * raw / raw.pow(2).sum(2, keepdim=True).sqrt(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got.norm(dim=2), torch.full((2, 3), 3.0))


def test_an_unknown_attention_is_refused_with_the_known_names() -> None:
    with pytest.raises(QAError, match="additive, multiplicative, normalised; got 'dot'"):
        LSTMAttentionLM(LMConfig(attention="dot"), 20)


def loss(lm: LSTMAttentionLM) -> Tensor:
    log_probs = lm.log_probabilities(lm.unroll(ANSWER, lm.encode(SOURCE)))
    return -log_probs.gather(2, ANSWER.unsqueeze(2)).sum()


@pytest.mark.parametrize("parts", VARIANTS)
def test_gradients_reach_every_weight(new_lm: NewLM, parts: dict[str, object]) -> None:
    lm = new_lm(**parts)
    loss(lm).backward()
    for name, parameter in lm.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
        assert torch.isfinite(parameter.grad).all(), name


def test_a_frozen_encoder_stays_while_the_decoder_learns(new_lm: NewLM) -> None:
    lm = new_lm()
    reference = lm.log_probabilities(lm.unroll(ANSWER, lm.encode(SOURCE)))
    lm.freeze_encoder()
    torch.testing.assert_close(lm.log_probabilities(lm.unroll(ANSWER, lm.encode(SOURCE))), reference)
    encoder = {name: value.clone() for name, value in lm.encoder.state_dict().items()}
    embedding = lm.embedding.weight.detach().clone()
    optimizer = torch.optim.SGD([p for p in lm.parameters() if p.requires_grad], lr=0.1)
    loss(lm).backward()
    optimizer.step()
    assert all(p.grad is None for p in lm.encoder.parameters())
    for name, value in lm.encoder.state_dict().items():
        assert torch.equal(value, encoder[name]), name
    assert not torch.equal(lm.embedding.weight, embedding)


def test_encoder_and_decoder_share_the_embedding_until_frozen(new_lm: NewLM) -> None:
    lm = new_lm()
    assert lm.embedding is lm.encoder.embedding
    lm.freeze_encoder()
    assert lm.embedding.weight.data_ptr() != lm.encoder.embedding.weight.data_ptr()


def test_a_known_answer_can_be_learnt(new_lm: NewLM) -> None:
    lm = new_lm()
    optimizer = torch.optim.Adam(lm.parameters(), lr=0.005)
    first = loss(lm).item()
    for _ in range(200):
        optimizer.zero_grad()
        value = loss(lm)
        value.backward()
        optimizer.step()
    assert value.item() < 0.1 * first
