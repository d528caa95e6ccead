"""The DDPG agent: reproducible, its exploration as stated, and able to find the best action of a simple problem."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from within.core.errors import WithinError
from within.core.quantize.ddpg import Ddpg, DdpgSettings, Replay

SMALL = DdpgSettings(hidden=24, batch=32)


def bandit(best: float, seed: int, steps: int = 1000) -> float:
    """Returns what the agent does after learning a one-step problem with the reward -(a - best)^2."""
    agent = Ddpg(2, 4, DdpgSettings(hidden=32, batch=32, replay=64), seed)
    state = np.array([0.3, 0.7])
    for step in range(steps):
        action = agent.explore() if step < 50 else agent.act(state, (step - 50) // 4)
        agent.remember(state, action, -((action - best) ** 2), state, True)
        if step >= 50:
            agent.learn()
    return agent.act(state)


@pytest.mark.parametrize("best", [0.2, 0.75])
def test_the_actor_climbs_to_the_best_action(best):
    """Would catch a policy gradient of the wrong sign, or a baseline that hides the reward."""
    assert bandit(best, seed=0) == pytest.approx(best, abs=0.12)


def test_equal_seeds_give_equal_agents_and_leave_other_random_numbers_alone():
    """Would catch randomness that does not come from the seed."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, other = bandit(0.5, 1, 80), bandit(0.5, 1, 80), bandit(0.5, 2, 80)
    assert torch.equal(torch.rand(3), expected)
    assert first == second != other


@settings(max_examples=30, deadline=None)
@given(episode=st.integers(0, 1500), seed=st.integers(0, 99))
def test_actions_stay_within_zero_and_one_however_narrow_the_noise(episode, seed):
    """Would catch a truncated normal that overflows where its tails vanish."""
    action = Ddpg(3, 2, SMALL, seed).act(np.ones(3), episode)
    assert 0.0 <= action <= 1.0


def test_exploration_narrows_by_its_factor_each_episode():
    """Would catch a decay that is not applied, or applied twice."""
    agent, state = Ddpg(3, 2, SMALL, 0), np.zeros(3)
    spread = {
        episode: np.std([agent.act(state, episode) - agent.act(state) for _ in range(3000)]) for episode in (200, 300)
    }
    assert spread[200] == pytest.approx(0.5 * 0.99**200, rel=0.06)
    assert spread[300] / spread[200] == pytest.approx(0.99**100, rel=0.08)


def test_the_memory_keeps_the_newest_transitions():
    """Would catch a ring that overwrites the wrong row, or columns that are swapped."""
    memory = Replay(3, 2)
    for number in range(5):
        memory.add(np.full(2, number), number + 0.1, number + 0.2, np.full(2, number + 10), number == 4)
    state, action, reward, following, done = memory.sample(3, np.random.default_rng(0))
    assert sorted(state[:, 0].tolist()) == [2, 3, 4]
    assert torch.allclose(action, state[:, :1] + 0.1)
    assert torch.allclose(reward, state[:, :1] + 0.2)
    assert torch.allclose(following, state + 10)
    assert torch.equal(done, (state[:, :1] == 4).float())


def test_target_networks_follow_by_tau():
    agent = Ddpg(2, 1, SMALL, 0)
    agent.remember(np.zeros(2), 0.5, 1.0, np.zeros(2), True)
    before = [parameter.clone() for parameter in agent.critic_target.parameters()]
    agent.learn()
    for old, slow, fast in zip(before, agent.critic_target.parameters(), agent.critic.parameters(), strict=True):
        assert torch.allclose(slow, 0.99 * old + 0.01 * fast, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 1), "at least 1"), ((1, 1, DdpgSettings(noise=0.0)), "noise"), ((1, 1, DdpgSettings(tau=2.0)), "tau")],
)
def test_settings_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(WithinError, match=message):
        Ddpg(*arguments)


def test_learning_from_an_empty_memory_is_refused():
    with pytest.raises(WithinError, match="nothing to learn"):
        Ddpg(2, 2, SMALL).learn()
