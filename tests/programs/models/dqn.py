"""Double DQN with a dueling head and a soft-updated target network (Mnih et al., 2015; Wang et al., 2016)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F
import flambeau.optim as optim

GAMMA, TAU = 0.99, 0.005


class DuelingDQN(nn.Module):
    def __init__(self, n_observations=4, n_actions=3):
        super().__init__()
        self.layer1 = nn.Linear(n_observations, 8)
        self.value = nn.Linear(8, 1)
        self.advantage = nn.Linear(8, n_actions)

    def forward(self, x):
        x = F.relu(self.layer1(x))
        advantage = self.advantage(x)
        return self.value(x) + advantage - advantage.mean(dim=1, keepdim=True)


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.policy_net, self.target_net = DuelingDQN(), DuelingDQN()
        self.target_net.load_state_dict(self.policy_net.state_dict())

    def forward(self, state, next_state):
        return self.policy_net(state), self.policy_net(next_state), self.target_net(next_state)


def make():
    action = torch.tensor([[0], [2], [1], [1]])
    reward = torch.tensor([1.0, -1.0, 0.5, 0.0])
    non_final_mask = torch.tensor([True, True, False, True])
    return Agent(), (torch.randn(4, 4), torch.randn(4, 4)), (action, reward, non_final_mask)


def loss(output, action_batch, reward_batch, non_final_mask):
    q_values, next_q, target_q = output
    state_action_values = q_values.gather(1, action_batch)
    with torch.no_grad():
        best = next_q.max(1).indices.unsqueeze(1)
        next_state_values = target_q.gather(1, best).squeeze(1) * non_final_mask
    expected_state_action_values = (next_state_values * GAMMA) + reward_batch
    criterion = nn.SmoothL1Loss()
    return criterion(state_action_values, expected_state_action_values.unsqueeze(1))


def optimizers(model):
    return optim.AdamW(model.policy_net.parameters(), lr=1e-3, amsgrad=True)


def train_step(model, optimizer, inputs, targets):
    value = loss(model(*inputs), *targets)
    optimizer.zero_grad()
    value.backward()
    torch.nn.utils.clip_grad_value_(model.policy_net.parameters(), 100)
    optimizer.step()
    with torch.no_grad():
        for target, source in zip(model.target_net.parameters(), model.policy_net.parameters()):
            target.lerp_(source, TAU)
    return value
