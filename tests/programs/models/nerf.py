"""NeRF: encoded positions, a skip, and colours summed along rays (Mildenhall et al., 2020); SIREN's sines beside it."""
import flambeau as torch
import flambeau.nn as nn
import flambeau.nn.functional as F


class Embedder:
    def __init__(self, **kwargs):
        self.kwargs = kwargs
        self.create_embedding_fn()

    def create_embedding_fn(self):
        embed_fns = []
        d = self.kwargs["input_dims"]
        out_dim = 0
        if self.kwargs["include_input"]:
            embed_fns.append(lambda x: x)
            out_dim += d
        N_freqs = self.kwargs["num_freqs"]
        freq_bands = 2.0 ** torch.linspace(0.0, self.kwargs["max_freq_log2"], steps=N_freqs)
        for freq in freq_bands:
            for p_fn in self.kwargs["periodic_fns"]:
                embed_fns.append(lambda x, p_fn=p_fn, freq=freq: p_fn(x * freq))
                out_dim += d
        self.embed_fns = embed_fns
        self.out_dim = out_dim

    def embed(self, inputs):
        return torch.cat([fn(inputs) for fn in self.embed_fns], -1)


class SineLayer(nn.Module):
    def __init__(self, in_features, out_features, omega_0=3):
        super().__init__()
        self.omega_0 = omega_0
        self.linear = nn.Linear(in_features, out_features)
        with torch.no_grad():
            self.linear.weight.uniform_(-1 / in_features, 1 / in_features)

    def forward(self, input):
        return torch.sin(self.omega_0 * self.linear(input))


class NeRF(nn.Module):
    def __init__(self, W=8):
        super().__init__()
        self.embedder = Embedder(include_input=True, input_dims=3, max_freq_log2=1, num_freqs=2,
                                 periodic_fns=[torch.sin, torch.cos])
        input_ch = self.embedder.out_dim
        self.pts_linears = nn.ModuleList([nn.Linear(input_ch, W), nn.Linear(W + input_ch, W)])
        self.siren = SineLayer(W, W)
        self.output_linear = nn.Linear(W, 4)

    def forward(self, rays_o, rays_d, z_vals):
        pts = rays_o[..., None, :] + rays_d[..., None, :] * z_vals[..., :, None]
        flat = torch.reshape(pts, [-1, pts.shape[-1]])
        embedded = self.embedder.embed(flat)
        h = F.relu(self.pts_linears[0](embedded))
        h = F.relu(self.pts_linears[1](torch.cat([embedded, h], -1)))
        raw = torch.reshape(self.output_linear(self.siren(h)), list(pts.shape[:-1]) + [4])
        dists = z_vals[..., 1:] - z_vals[..., :-1]
        dists = torch.cat([dists, torch.Tensor([1e10]).expand(dists[..., :1].shape)], -1)
        dists = dists * torch.norm(rays_d[..., None, :], dim=-1)
        rgb = torch.sigmoid(raw[..., :3])
        alpha = 1.0 - torch.exp(-F.relu(raw[..., 3]) * dists)
        ones = torch.ones((alpha.shape[0], 1))
        weights = alpha * torch.cumprod(torch.cat([ones, 1.0 - alpha + 1e-10], -1), -1)[:, :-1]
        return torch.sum(weights[..., None] * rgb, -2), torch.sum(weights * z_vals, -1)


def make():
    z_vals = torch.linspace(2.0, 4.0, 5).expand(3, 5)
    return NeRF(), (torch.randn(3, 3), torch.randn(3, 3), z_vals), (torch.rand(3, 3),)


def loss(output, target):
    rgb, depth = output
    img2mse = lambda x, y: torch.mean((x - y) ** 2)
    return img2mse(rgb, target) + 0.01 * depth.mean()
