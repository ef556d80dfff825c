"""Mamba-2: a selective state space in chunks, with segment sums (Dao and Gu, 2024)."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F
from flambeau import Tensor


def segsum(x: Tensor) -> Tensor:
    T = x.size(-1)
    x = x[..., None].repeat(*([1] * x.dim()), T)
    mask = torch.tril(torch.ones(T, T, dtype=torch.bool, device=x.device), diagonal=-1)
    x = x.masked_fill(~mask, 0)
    x_segsum = torch.cumsum(x, dim=-2)
    mask = torch.tril(torch.ones(T, T, dtype=torch.bool, device=x.device), diagonal=0)
    return x_segsum.masked_fill(~mask, -torch.inf)


def chunked(x, size):
    return x.unflatten(1, (-1, size))


def ssd(x, A, B, C, chunk_size):
    assert x.shape[1] % chunk_size == 0
    x, A, B, C = [chunked(m, chunk_size) for m in (x, A, B, C)]
    A = A.permute(0, 3, 1, 2)
    A_cumsum = torch.cumsum(A, dim=-1)
    L = torch.exp(segsum(A))
    Y_diag = torch.einsum("bclhn,bcshn,bhcls,bcshp->bclhp", C, B, L, x)
    decay_states = torch.exp(A_cumsum[:, :, :, -1:] - A_cumsum)
    states = torch.einsum("bclhn,bhcl,bclhp->bchpn", B, decay_states, x)
    states = torch.cat([torch.zeros_like(states[:, :1]), states], dim=1)
    decay_chunk = torch.exp(segsum(F.pad(A_cumsum[:, :, :, -1], (1, 0))))
    new_states = torch.einsum("bhzc,bchpn->bzhpn", decay_chunk, states)
    states, final_state = new_states[:, :-1], new_states[:, -1]
    state_decay_out = torch.exp(A_cumsum)
    Y_off = torch.einsum("bclhn,bchpn,bhcl->bclhp", C, states, state_decay_out)
    return (Y_diag + Y_off).flatten(1, 2), final_state


class Mamba2(nn.Module):
    def __init__(self, d_model=4, d_inner=8, headdim=4, d_state=3, chunk_size=4, d_conv=3):
        super().__init__()
        self.nheads, self.headdim, self.d_state, self.d_inner = d_inner // headdim, headdim, d_state, d_inner
        self.chunk_size = chunk_size
        self.in_proj = nn.Linear(d_model, 2 * d_inner + 2 * d_state + self.nheads, bias=False)
        conv_dim = d_inner + 2 * d_state
        self.conv1d = nn.Conv1d(conv_dim, conv_dim, d_conv, groups=conv_dim, padding=d_conv - 1)
        dt = torch.exp(torch.linspace(-3, -1, self.nheads))
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        self.A_log = nn.Parameter(torch.log(torch.arange(1, self.nheads + 1, dtype=torch.float32)))
        self.A_log._no_weight_decay = True
        self.D = nn.Parameter(torch.ones(self.nheads))
        self.norm = nn.RMSNorm(d_inner)
        self.out_proj = nn.Linear(d_inner, d_model, bias=False)

    def forward(self, u):
        A = -torch.exp(self.A_log)
        z, xBC, dt = torch.split(
            self.in_proj(u), [self.d_inner, self.d_inner + 2 * self.d_state, self.nheads], dim=-1)
        dt = F.softplus(dt + self.dt_bias)
        xBC = F.silu(self.conv1d(xBC.transpose(1, 2)).transpose(1, 2)[:, : u.shape[1], :])
        x, B, C = torch.split(xBC, [self.d_inner, self.d_state, self.d_state], dim=-1)
        x = x.unflatten(-1, (-1, self.headdim))
        y, _ = ssd(x * dt.unsqueeze(-1), A * dt, B.unsqueeze(2).expand(-1, -1, self.nheads, -1),
                   C.unsqueeze(2).expand(-1, -1, self.nheads, -1), self.chunk_size)
        y = (y + x * self.D.unsqueeze(-1)).flatten(-2)
        return self.out_proj(self.norm(y * F.silu(z)))


def make():
    x = torch.randn(2, 8, 4)
    return Mamba2(), (x,), (x.cumsum(1),)


def loss(output, target):
    return F.mse_loss(output, target)
