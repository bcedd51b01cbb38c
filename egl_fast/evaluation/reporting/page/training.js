// Losses and errors of trainings, epoch by epoch; and the table for papers.
const trainingForm = byId("training-controls");

function drawTraining() {
  const { metrics, queries, curves, runs } = data.training;
  const form = new FormData(trainingForm);
  const [metric, of] = [Number(form.get("metric")), Number(form.get("of"))];
  const other = "other trainings";
  const epochs = runs.filter((run) => run.q === of).flatMap((run, training) => {
    const series = run.s === null ? other : label(run.s);
    return curves[run.of][metric].flatMap((y, at) => (y === null ? [] : [{
      series, training, x: at + 1, y,
      said: `${series}, ${queries[of]}, seed ${run.seed}\nepoch ${at + 1}: ${people(y)}`,
    }]));
  });
  draw("training-chart", charts.training(metrics[metric].title, other), { epochs });
}

if (trainingForm) {
  trainingForm.addEventListener("submit", (event) => event.preventDefault());
  trainingForm.addEventListener("change", drawTraining);
  redraws.push(drawTraining);
}

const copyLatex = byId("copy-latex");
if (copyLatex) {
  copyLatex.addEventListener("click", async () => {
    const source = byId("latex");
    let said = "Copied.";
    try {
      await navigator.clipboard.writeText(source.textContent);
    } catch { // where a browser does not let a file do that
      getSelection().selectAllChildren(source);
      said = "Selected: copy it with Ctrl+C.";
    }
    byId("copied").textContent = said;
  });
}
