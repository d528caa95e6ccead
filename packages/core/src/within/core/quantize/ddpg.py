"""Deep deterministic policy gradient (Lillicrap et al., Continuous control with deep reinforcement learning, 2016).

An actor mu(s) in (0, 1) and a critic Q(s, a) with slowly following copies mu', Q':

    y = r - r_mean + gamma (1 - done) Q'(s', mu'(s'))     the critic minimises (Q(s, a) - y)^2
                                                          the actor maximises Q(s, mu(s))
    theta' <- tau theta + (1 - tau) theta'

with the settings of AMC (He et al., ECCV 2018) and HAQ (Wang et al., CVPR 2019): exploration by a truncated normal
around mu(s) whose width decays by episode, and a moving average r_mean of the reward as baseline. All randomness comes
from the seed, so equal seeds give equal runs.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from torch import Tensor, nn

from within.core.errors import WithinError


@dataclass(frozen=True)
class DdpgSettings:
    """Settings of the agent; the defaults are those of HAQ.

    Attributes:
        hidden: units of both hidden layers.
        critic_rate, actor_rate: learning rates (Adam).
        tau: how fast the target networks follow.
        discount: gamma.
        batch: transitions in an update.
        replay: transitions remembered, for each decision of an episode.
        noise, noise_decay: standard deviation of the exploration after the warm-up, and its factor an episode.
        baseline: weight of the newest batch in the moving average of the reward.
    """

    hidden: int = 300
    critic_rate: float = 1e-3
    actor_rate: float = 1e-4
    tau: float = 0.01
    discount: float = 1.0
    batch: int = 64
    replay: int = 128
    noise: float = 0.5
    noise_decay: float = 0.99
    baseline: float = 0.5


class Actor(nn.Module):
    """mu(s): two hidden layers and a sigmoid."""

    def __init__(self, states: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(states, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 1)

    def forward(self, state: Float[Tensor, "batch states"]) -> Float[Tensor, "batch 1"]:
        return torch.sigmoid(self.last(F.relu(self.second(F.relu(self.first(state))))))


class Critic(nn.Module):
    """Q(s, a): state and action enter the first hidden layer as a sum."""

    def __init__(self, states: int, hidden: int) -> None:
        super().__init__()
        self.state, self.action = nn.Linear(states, hidden), nn.Linear(1, hidden)
        self.second, self.last = nn.Linear(hidden, hidden), nn.Linear(hidden, 1)

    def forward(
        self, state: Float[Tensor, "batch states"], action: Float[Tensor, "batch 1"]
    ) -> Float[Tensor, "batch 1"]:
        return self.last(F.relu(self.second(F.relu(self.state(state) + self.action(action)))))


class Replay:
    """The newest `capacity` transitions (s, a, r, s', done), in rows of one array."""

    def __init__(self, capacity: int, states: int) -> None:
        self.rows = np.zeros((capacity, 2 * states + 3), dtype=np.float32)
        self.states, self.count = states, 0

    def __len__(self) -> int:
        return min(self.count, len(self.rows))

    def add(self, state: NDArray, action: float, reward: float, following: NDArray, done: bool) -> None:
        """Remembers a transition in place of the oldest one."""
        row = self.rows[self.count % len(self.rows)]
        row[: self.states], row[self.states : 2 * self.states] = state, following
        row[2 * self.states :] = action, reward, done
        self.count += 1

    def sample(self, size: int, random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Returns (state, action, reward, next state, done) of different transitions, as far as there are so many."""
        chosen = random.choice(len(self), size, replace=len(self) < size)
        rows = torch.from_numpy(self.rows[chosen])
        s = self.states
        return (
            rows[:, :s],
            rows[:, 2 * s : 2 * s + 1],
            rows[:, 2 * s + 1 : 2 * s + 2],
            rows[:, s : 2 * s],
            rows[:, 2 * s + 2 :],
        )


class Ddpg:
    """The agent: acts, remembers, learns.

    Arguments:
        states: numbers in a state.
        decisions: actions in an episode; sets the size of the memory.
        settings: see `DdpgSettings`.
        seed: decides the first weights, the exploration and the order of the memory.

    Raises:
        WithinError: when there is no state, no decision, or a setting that cannot be.
    """

    def __init__(self, states: int, decisions: int, settings: DdpgSettings | None = None, seed: int = 0) -> None:
        self.settings = settings = DdpgSettings() if settings is None else settings
        if min(states, decisions, settings.hidden, settings.batch, settings.replay) < 1:
            raise WithinError("States, decisions, hidden units, batch and replay must be at least 1", where="DDPG")
        if settings.noise <= 0 or not 0 < settings.tau <= 1:
            raise WithinError("The noise must be above 0 and tau in (0, 1]", where="DDPG")
        self.random = np.random.default_rng(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor, self.critic = Actor(states, settings.hidden), Critic(states, settings.hidden)
        self.actor_target, self.critic_target = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=settings.actor_rate, fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=settings.critic_rate, fused=True)
        self.memory = Replay(settings.replay * decisions, states)
        self.reward_mean: float | None = None

    def explore(self) -> float:
        """Returns a uniformly random action in [0, 1)."""
        return float(self.random.random())

    def act(self, state: NDArray, episode: int | None = None) -> float:
        """Returns the action in [0, 1] for a state.

        Arguments:
            state: shape (states,).
            episode: episodes since the warm-up, for the width of the exploration; None acts without it.
        """
        with torch.no_grad():
            mean = float(self.actor(torch.as_tensor(state, dtype=torch.float32)[None]))
        if episode is None:
            return mean
        deviation = self.settings.noise * self.settings.noise_decay**episode
        low, high = ndtr(-mean / deviation), ndtr((1 - mean) / deviation)
        drawn = mean + deviation * float(ndtri(low + (high - low) * self.random.random()))
        return min(1.0, max(0.0, drawn))

    def remember(self, state: NDArray, action: float, reward: float, following: NDArray, done: bool) -> None:
        """Adds a transition to the memory."""
        self.memory.add(state, action, reward, following, done)

    def learn(self) -> tuple[float, float]:
        """Makes one update of all networks from a random batch of the memory.

        Returns:
            the losses of critic and actor before the update.

        Raises:
            WithinError: when the memory is empty.
        """
        if not len(self.memory):
            raise WithinError("There is nothing to learn from yet", where="DDPG", todo="remember a transition first")
        settings = self.settings
        state, action, reward, following, done = self.memory.sample(settings.batch, self.random)
        mean = float(reward.mean())
        before = mean if self.reward_mean is None else self.reward_mean
        self.reward_mean = before + settings.baseline * (mean - before)
        with torch.no_grad():
            value = self.critic_target(following, self.actor_target(following))
            target = reward - self.reward_mean + settings.discount * (1 - done) * value
        critic_loss = F.mse_loss(self.critic(state, action), target)
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step()
        actor_parameters = list(self.actor.parameters())
        actor_loss = -self.critic(state, self.actor(state)).mean()
        gradients = torch.autograd.grad(actor_loss, actor_parameters)  # the critic's own gradients are not wanted
        for parameter, gradient in zip(actor_parameters, gradients):
            parameter.grad = gradient
        self.actor_optimizer.step()
        with torch.no_grad():
            for slow, fast in ((self.actor_target, self.actor), (self.critic_target, self.critic)):
                for old, new in zip(slow.parameters(), fast.parameters()):
                    old.lerp_(new, settings.tau)
        return float(critic_loss.detach()), float(actor_loss.detach())
