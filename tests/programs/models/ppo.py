"""PPO: clipped surrogate, clipped values, entropy of a diagonal Gaussian (Schulman et al., 2017)."""
import math

import numpy as np

import flambeau as torch
import flambeau.nn as nn


def layer_init(layer, std=np.sqrt(2), bias_const=0.0):
    torch.nn.init.orthogonal_(layer.weight, std)
    torch.nn.init.constant_(layer.bias, bias_const)
    return layer


class Agent(nn.Module):
    def __init__(self, obs_dim=6, action_dim=2):
        super().__init__()
        self.critic = nn.Sequential(layer_init(nn.Linear(obs_dim, 8)), nn.Tanh(), layer_init(nn.Linear(8, 1), std=1.0))
        self.actor_mean = nn.Sequential(
            layer_init(nn.Linear(obs_dim, 8)), nn.Tanh(), layer_init(nn.Linear(8, action_dim), std=0.01))
        self.actor_logstd = nn.Parameter(torch.zeros(1, action_dim))

    def get_value(self, x):
        return self.critic(x)

    def forward(self, x, action):
        action_mean = self.actor_mean(x)
        action_logstd = self.actor_logstd.expand_as(action_mean)
        action_std = torch.exp(action_logstd)
        log_prob = -((action - action_mean) ** 2) / (2 * action_std**2) - action_logstd - math.log(math.sqrt(2 * math.pi))
        entropy = 0.5 + 0.5 * math.log(2 * math.pi) + action_logstd
        return log_prob.sum(1), entropy.sum(1), self.critic(x)


def make():
    obs, actions = torch.randn(7, 6), torch.randn(7, 2)
    return Agent(), (obs, actions), (torch.randn(7) - 3, torch.randn(7), torch.randn(7), torch.randn(7))


def loss(output, logprobs, advantages, returns, values, clip_coef=0.2, ent_coef=0.01, vf_coef=0.5):
    newlogprob, entropy, newvalue = output
    logratio = newlogprob - logprobs
    ratio = logratio.exp()
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    pg_loss1 = -advantages * ratio
    pg_loss2 = -advantages * torch.clamp(ratio, 1 - clip_coef, 1 + clip_coef)
    pg_loss = torch.max(pg_loss1, pg_loss2).mean()
    newvalue = newvalue.view(-1)
    v_loss_unclipped = (newvalue - returns) ** 2
    v_clipped = values + torch.clamp(newvalue - values, -clip_coef, clip_coef)
    v_loss = 0.5 * torch.max(v_loss_unclipped, (v_clipped - returns) ** 2).mean()
    return pg_loss - ent_coef * entropy.mean() + v_loss * vf_coef


def optimizers(model):
    return torch.optim.Adam(model.parameters(), lr=3e-4, eps=1e-5)


def train_step(model, optimizer, inputs, targets):
    value = loss(model(*inputs), *targets)
    optimizer.zero_grad()
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    return value
