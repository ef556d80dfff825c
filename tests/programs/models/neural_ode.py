"""A neural ODE by Runge-Kutta steps, with a continuous normalizing flow's trace of the Jacobian (Chen et al., 2018)."""
import flambeau as torch
import flambeau.nn as nn


class ODEFunc(nn.Module):
    def __init__(self):
        super(ODEFunc, self).__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
        self.nfe = 0
        for m in self.net.modules():
            if isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, mean=0, std=0.3)
                nn.init.constant_(m.bias, val=0)

    def forward(self, t, y):
        return self.net(y**3)


def rk4_step_func(func, t0, dt, t1, y0):
    k1 = func(t0, y0)
    k2 = func(t0 + dt / 3, y0 + dt * k1 / 3)
    k3 = func(t0 + dt * 2 / 3, y0 + dt * (k2 - k1 / 3))
    k4 = func(t1, y0 + dt * (k1 - k2 + k3))
    return (k1 + 3 * (k2 + k3) + k4) * dt * 0.125


def odeint(func, y0, t):
    solution = torch.empty(len(t), *y0.shape, dtype=y0.dtype, device=y0.device)
    solution[0] = y0
    for j, (t0, t1) in enumerate(zip(t[:-1], t[1:])):
        dy = rk4_step_func(func, t0, t1 - t0, t1, y0)
        y0 = y0 + dy
        solution[j + 1] = y0
    return solution


class NeuralODE(nn.Module):
    def __init__(self):
        super().__init__()
        self.func = ODEFunc()
        self.register_buffer("t", torch.linspace(0.0, 1.0, 4), persistent=False)

    def forward(self, y0):
        y = odeint(self.func, y0, self.t)
        with torch.set_grad_enabled(True):
            z = y[-1].detach().requires_grad_(True)
            dz = self.func(self.t[-1], z)
            trace = 0.0
            for i in range(z.shape[1]):
                trace += torch.autograd.grad(dz[:, i].sum(), z, create_graph=True)[0].contiguous()[:, i].contiguous()
        return y, trace


def make():
    return NeuralODE(), (torch.tensor([[2.0, 0.0], [0.5, -1.0]]),), (torch.randn(4, 2, 2),)


def loss(output, true_y):
    pred_y, trace = output
    return torch.mean(torch.abs(pred_y - true_y)) + 0.1 * trace.pow(2).mean()
