"""Actor-critic: an episode's returns, computed backwards in Python, and the loss of both heads."""
from collections import namedtuple

import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F

SavedAction = namedtuple("SavedAction", ["log_prob", "value"])
eps = 1e-7


class Policy(nn.Module):
    def __init__(self):
        super(Policy, self).__init__()
        self.affine1 = nn.Linear(4, 12)
        self.action_head = nn.Linear(12, 2)
        self.value_head = nn.Linear(12, 1)

    def forward(self, x):
        x = F.relu(self.affine1(x))
        action_prob = F.softmax(self.action_head(x), dim=-1)
        state_values = self.value_head(x)
        return action_prob, state_values


class Episode(nn.Module):
    def __init__(self):
        super().__init__()
        self.policy = Policy()

    def forward(self, states, actions):
        saved = []
        for state, action in zip(states, actions):
            probs, value = self.policy(state)
            saved.append(SavedAction(torch.log(probs.gather(-1, action.unsqueeze(-1))).squeeze(-1), value))
        return saved


def make():
    rewards = (1.0, 1.0, 0.0, 1.0, 2.0)
    return Episode(), (torch.randn(5, 4), torch.tensor([0, 1, 1, 0, 1])), (rewards,)


def loss(saved_actions, rewards, gamma=0.99):
    R = 0
    returns = []
    for r in rewards[::-1]:
        R = r + gamma * R
        returns.insert(0, R)
    returns = torch.tensor(returns)
    returns = (returns - returns.mean()) / (returns.std() + eps)
    policy_losses, value_losses = [], []
    for (log_prob, value), R in zip(saved_actions, returns):
        advantage = R - value.detach()
        policy_losses.append(-log_prob * advantage)
        value_losses.append(F.smooth_l1_loss(value, R.view(1)))
    return torch.stack(policy_losses).sum() + torch.stack(value_losses).sum()
